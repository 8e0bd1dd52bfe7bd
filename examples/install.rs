//! Installs the C library that cargo has built: headers, shared and static library, and what pkg-config
//! and CMake look for.
//!
//! ```text
//! cargo run --release --example install -- --prefix /usr/local
//! cargo run --release --example install -- --prefix /usr --libdir lib/x86_64-linux-gnu --destdir image
//! ```
//!
//! `cargo cinstall --release --prefix /usr/local` does the same, where cargo-c is at hand.

use clap::Parser;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};
use std::process::ExitCode;

/// Where things go.
#[derive(Clone, Debug, Parser)]
pub struct Arguments {
    /// Where the library is used: absolute, or from the working directory
    #[arg(long, default_value = "/usr/local")]
    pub prefix: PathBuf,
    /// The folder of libraries, within the prefix
    #[arg(long, default_value = "lib")]
    pub libdir: PathBuf,
    /// Put in front of every path that is written, and into none that is recorded: for packages
    #[arg(long)]
    pub destdir: Option<PathBuf>,
}

const VERSION: &str = env!("CARGO_PKG_VERSION");

/// What is the same in every installation.
const FILES: [(&str, &str); 6] = [
    ("include/latentblend.h", include_str!("../include/latentblend.h")),
    ("include/latentblend.hpp", include_str!("../include/latentblend.hpp")),
    (
        "share/latentblend/cmake/latentblendConfig.cmake",
        include_str!("../packaging/latentblendConfig.cmake"),
    ),
    (
        "share/latentblend/cmake/latentblendConfigVersion.cmake",
        include_str!("../packaging/latentblendConfigVersion.cmake"),
    ),
    ("share/doc/latentblend/LICENSE-MIT", include_str!("../LICENSE-MIT")),
    ("share/doc/latentblend/LICENSE-APACHE", include_str!("../LICENSE-APACHE")),
];

fn main() -> ExitCode {
    let written = std::env::current_exe()
        .and_then(|program| built(&program))
        .and_then(|folder| install(&folder, &Arguments::parse()));
    match written {
        Ok(paths) => {
            for path in paths {
                println!("{}", path.display());
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The folder where cargo has put the libraries that were built along with `program`, an example or a
/// test. It is always `deps`; the folder above it holds copies of what `cargo build` last made, which may
/// be old.
pub fn built(program: &Path) -> io::Result<PathBuf> {
    let here = program.parent().into_iter();
    let above = program.ancestors().nth(2).map(|folder| folder.join("deps"));
    here.map(Path::to_path_buf)
        .chain(above)
        .find(|folder| folder.ends_with("deps") && folder.is_dir())
        .ok_or_else(|| io::Error::other(format!("no folder 'deps' near {}", program.display())))
}

/// Installs what lies in `from`. Gives all paths that were written.
pub fn install(from: &Path, arguments: &Arguments) -> io::Result<Vec<PathBuf>> {
    let prefix = std::path::absolute(&arguments.prefix)?;
    if arguments.libdir.components().any(|part| !matches!(part, Component::Normal(_))) {
        let libdir = arguments.libdir.display();
        return Err(io::Error::other(format!("libdir {libdir}: wanted a path within the prefix")));
    }
    let mut place = Place { root: staged(&prefix, arguments.destdir.as_deref()), written: vec![] };
    for (path, text) in FILES {
        place.write(Path::new(path), text.as_bytes())?;
    }
    let libdir = arguments.libdir.as_path();
    place
        .write(&libdir.join("pkgconfig/latentblend.pc"), pkg_config(&prefix, libdir).as_bytes())?;
    let mut found = false;
    for (name, folder) in [
        ("liblatentblend.a", libdir),
        ("latentblend.lib", libdir),
        ("latentblend.dll.lib", libdir),
        ("liblatentblend.dll.a", libdir),
        ("latentblend.dll", Path::new("bin")),
    ] {
        if from.join(name).is_file() {
            place.copy(&from.join(name), &folder.join(name))?;
            found = true;
        }
    }
    let (major, minor) = (env!("CARGO_PKG_VERSION_MAJOR"), env!("CARGO_PKG_VERSION_MINOR"));
    let abi = if major == "0" { format!("0.{minor}") } else { major.to_owned() };
    let elf = |version: &str| format!("liblatentblend.so{version}");
    let mach = |version: &str| format!("liblatentblend{version}.dylib");
    for named in [&elf as &dyn Fn(&str) -> String, &mach] {
        let source = from.join(named(""));
        if source.is_file() {
            let file = named(&format!(".{VERSION}"));
            place.copy(&source, &libdir.join(&file))?;
            place.link(&file, &libdir.join(named(&format!(".{abi}"))))?;
            place.link(&named(&format!(".{abi}")), &libdir.join(named("")))?;
            found = true;
        }
    }
    if !found {
        let what = format!("no library of latentblend in {}", from.display());
        return Err(io::Error::new(io::ErrorKind::NotFound, what));
    }
    Ok(place.written)
}

/// The prefix as it is written to: below `destdir`, where there is one.
fn staged(prefix: &Path, destdir: Option<&Path>) -> PathBuf {
    let Some(destdir) = destdir else { return prefix.to_path_buf() };
    let below = prefix.components().filter(|part| matches!(part, Component::Normal(_)));
    destdir.join(below.collect::<PathBuf>())
}

/// What pkg-config is told.
fn pkg_config(prefix: &Path, libdir: &Path) -> String {
    // What the standard library and the models' threads need of the system when linked statically.
    let private = match std::env::consts::OS {
        "linux" => "-lgcc_s -lutil -lrt -lpthread -lm -ldl -lc",
        "windows" => "-lkernel32 -lntdll -luserenv -lws2_32 -ldbghelp",
        _ => "-lc -lm",
    };
    // Spaces would part a flag in two.
    let text = |path: &Path| path.to_string_lossy().replace('\\', "/").replace(' ', "\\ ");
    format!(
        "prefix={}\nlibdir=${{prefix}}/{}\nincludedir=${{prefix}}/include\n\nName: latentblend\n\
         Description: {}\nVersion: {VERSION}\nCflags: -I${{includedir}}\nLibs: -L${{libdir}} \
         -llatentblend\nLibs.private: {private}\n",
        text(prefix),
        text(libdir),
        env!("CARGO_PKG_DESCRIPTION"),
    )
}

/// An installation under way.
struct Place {
    root: PathBuf,
    written: Vec<PathBuf>,
}

impl Place {
    /// Makes a file under another name and then gives it its own: a program that has the old one open,
    /// or mapped, keeps it.
    fn replace(
        &mut self,
        path: &Path,
        make: impl FnOnce(&Path) -> io::Result<()>,
    ) -> io::Result<()> {
        let target = self.root.join(path);
        let named = |error| io::Error::other(format!("{}: {error}", target.display()));
        if let Some(folder) = target.parent() {
            fs::create_dir_all(folder).map_err(named)?;
        }
        let mut new = OsString::from(&target);
        // Two that install at a time don't meet.
        new.push(format!(".{}.new", std::process::id()));
        let new = PathBuf::from(new);
        let _ = fs::remove_file(&new);
        make(&new).and_then(|()| fs::rename(&new, &target)).map_err(named)?;
        self.written.push(target);
        Ok(())
    }

    fn write(&mut self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        self.replace(path, |new| fs::write(new, bytes))
    }

    fn copy(&mut self, from: &Path, path: &Path) -> io::Result<()> {
        self.replace(path, |new| fs::copy(from, new).map(drop))
    }

    /// A link to `file`, which lies beside it.
    #[cfg(unix)]
    fn link(&mut self, file: &str, path: &Path) -> io::Result<()> {
        self.replace(path, |new| std::os::unix::fs::symlink(file, new))
    }

    /// A copy of `file`, which lies beside it.
    #[cfg(not(unix))]
    fn link(&mut self, file: &str, path: &Path) -> io::Result<()> {
        self.copy(&self.root.join(path).with_file_name(file), path)
    }
}
