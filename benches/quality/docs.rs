//! In: a page, the name of a part of it, and a text. Out: the page with that text in the part's place.

/// The marks around a part.
fn marks(name: &str) -> [String; 2] {
    [format!("<!-- measured: {name} -->\n"), format!("<!-- end of {name} -->\n")]
}

/// The page with `text` between the marks of `name`.
///
/// # Errors
/// A message, where the page hasn't both marks, in their order.
pub(crate) fn replaced(page: &str, name: &str, text: &str) -> Result<String, String> {
    let [begin, end] = marks(name);
    let parts = page.split_once(&begin).and_then(|(before, rest)| {
        let (_, behind) = rest.split_once(&end)?;
        Some((before, behind))
    });
    let (before, behind) =
        parts.ok_or_else(|| format!("no {} ... {}", begin.trim(), end.trim()))?;
    Ok(format!("{before}{begin}\n{}\n\n{end}{behind}", text.trim()))
}
