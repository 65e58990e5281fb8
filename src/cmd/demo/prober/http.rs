//! The little HTTP/1.1 that the prober speaks.

/// An answer longer than this is wrong.
pub(super) const LIMIT: usize = 8 * 1024;

/// What has been read of an answer so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer<'a> {
    /// More has to come.
    Incomplete,
    /// The body of a 200, all of it.
    Whole(&'a str),
    /// Not what was asked for.
    Wrong,
}

/// A request to keep the connection afterwards, or to close it.
pub(super) fn request(keep: bool) -> &'static [u8] {
    if keep {
        b"GET / HTTP/1.1\r\nHost: api.shop\r\nConnection: keep-alive\r\n\r\n"
    } else {
        b"GET / HTTP/1.1\r\nHost: api.shop\r\nConnection: close\r\n\r\n"
    }
}

/// Reads an answer with a Content-Length, which is what nginx sends here.
pub(super) fn parse(bytes: &[u8]) -> Answer<'_> {
    let Some(head) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
        return if bytes.len() >= LIMIT { Answer::Wrong } else { Answer::Incomplete };
    };
    let length = std::str::from_utf8(&bytes[..head]).ok().and_then(length_of_ok);
    let Some(length) = length.filter(|length| *length <= LIMIT) else { return Answer::Wrong };
    let body = &bytes[head + 4..];
    if body.len() < length {
        return Answer::Incomplete;
    }
    std::str::from_utf8(body).ok().filter(|body| body.len() == length).map_or(Answer::Wrong, Answer::Whole)
}

/// The Content-Length, if the status is 200.
fn length_of_ok(head: &str) -> Option<usize> {
    let mut lines = head.split("\r\n");
    lines.next()?.strip_prefix("HTTP/1.1 200 ")?;
    let mut fields = lines.filter_map(|line| line.split_once(':'));
    fields.find(|(name, _)| name.eq_ignore_ascii_case("content-length"))?.1.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_with_its_last_byte() {
        let answer = b"HTTP/1.1 200 OK\r\nServer: x\r\ncontent-length: 3\r\n\r\nabc";
        for end in 0..answer.len() {
            assert_eq!(parse(&answer[..end]), Answer::Incomplete, "{end}");
        }
        assert_eq!(parse(answer), Answer::Whole("abc"));
    }

    #[test]
    fn anything_but_a_200_of_that_length_is_wrong() {
        let wrong: [&[u8]; 5] = [
            b"HTTP/1.1 503 No\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nab",
            b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n",
            b"\xff\r\n\r\n",
        ];
        for answer in wrong {
            assert_eq!(parse(answer), Answer::Wrong, "{}", answer.escape_ascii());
        }
        assert_eq!(parse(&[b'x'; LIMIT]), Answer::Wrong);
    }
}
