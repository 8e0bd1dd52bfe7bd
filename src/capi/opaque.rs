//! In: nothing. Out: the types that C sees only as pointers. They are never made: a handle points
//! nowhere (`handle.rs`).

/// A failure: one owner, immutable. Freed by lb_error_free.
#[allow(non_camel_case_types, reason = "its name in C")]
pub struct lb_error {
    _private: [u8; 0],
}

/// A token that stops one operation: shared, usable from any thread.
#[allow(non_camel_case_types, reason = "its name in C")]
pub struct lb_cancel {
    _private: [u8; 0],
}

/// A loaded model: shared, immutable.
#[allow(non_camel_case_types, reason = "its name in C")]
pub struct lb_model {
    _private: [u8; 0],
}

/// A transition through keyframes: shared, usable from any thread.
#[allow(non_camel_case_types, reason = "its name in C")]
pub struct lb_session {
    _private: [u8; 0],
}

/// The weights of the LPIPS distance: shared, immutable.
#[allow(non_camel_case_types, reason = "its name in C")]
pub struct lb_lpips {
    _private: [u8; 0],
}
