//! ● Fields of objects of other systems.

use kube::api::DynamicObject;
use serde_json::Value;

/// The text at a JSON pointer of an object.
pub(super) fn text<'a>(object: &'a DynamicObject, at: &str) -> Option<&'a str> {
    object.data.pointer(at).and_then(Value::as_str)
}

/// Whether the field at a JSON pointer says yes.
pub(super) fn flag(object: &DynamicObject, at: &str) -> bool {
    object.data.pointer(at).and_then(Value::as_bool).unwrap_or_default()
}

/// The port number at a JSON pointer.
///
/// # Errors
/// There is none.
pub(super) fn port(object: &DynamicObject, at: &str) -> Result<u16, String> {
    let found = object.data.pointer(at);
    let port = found.and_then(Value::as_u64).and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0);
    let field = at.trim_start_matches('/').replace('/', ".");
    port.ok_or_else(|| {
        let found = found.map_or_else(|| "nothing".into(), Value::to_string);
        format!("{field}: found {found}, expected a port number, 1 to 65535")
    })
}
