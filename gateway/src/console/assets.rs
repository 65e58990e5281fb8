//! What the page is made of: built from console/ and kept there in console/dist, compressed.

use axum::{
    http::{
        HeaderName, HeaderValue, StatusCode,
        header::{
            CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY,
            X_CONTENT_TYPE_OPTIONS,
        },
    },
    response::{IntoResponse, Response},
};

/// A file of the page, or that there is none.
pub(super) struct Asset(Option<(&'static str, &'static [u8])>);

/// Nothing from elsewhere, nothing inline, and nobody may put the page into theirs.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The file of that name.
pub(super) fn find(name: &str) -> Asset {
    Asset(match name {
        "index.html" => Some(("text/html; charset=utf-8", include_bytes!("../../../console/dist/index.html.gz"))),
        "console.js" => Some(("text/javascript; charset=utf-8", include_bytes!("../../../console/dist/console.js.gz"))),
        "console.css" => Some(("text/css; charset=utf-8", include_bytes!("../../../console/dist/console.css.gz"))),
        _ => None,
    })
}

impl IntoResponse for Asset {
    fn into_response(self) -> Response {
        let Some((kind, bytes)) = self.0 else {
            return (StatusCode::NOT_FOUND, "found: /console/ is the console\n").into_response();
        };
        let fields: [(HeaderName, &'static str); 7] = [
            (CONTENT_TYPE, kind),
            (CONTENT_ENCODING, "gzip"),
            (CACHE_CONTROL, "no-store"),
            (CONTENT_SECURITY_POLICY, POLICY),
            (X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (REFERRER_POLICY, "no-referrer"),
            (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        ];
        (fields.map(|(name, value)| (name, HeaderValue::from_static(value))), bytes).into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_small() {
        let sizes = ["index.html", "console.js", "console.css"].map(|name| find(name).0.unwrap().1.len());
        assert!(sizes.iter().sum::<usize>() < 300 * 1024, "{sizes:?}");
        assert!(sizes.iter().all(|&size| size > 100), "{sizes:?}");
    }
}
