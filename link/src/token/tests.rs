use super::*;
use proptest::prelude::*;

fn token() -> Token {
    Token {
        id: InviteId([1; 8]),
        secret: Secret([2; 24]),
        ca: Fingerprint([3; 32]),
        issued: UNIX_EPOCH + Duration::from_secs(1_800_000_000),
        lifetime: 900,
        inviter: "east.demo".parse().unwrap(),
        endpoints: vec!["203.0.113.7:15008".parse().unwrap(), "[2001:db8::1]:15008".parse().unwrap()],
    }
}

prop_compose! {
    fn any_token()(
        id in any::<[u8; 8]>(), secret in any::<[u8; 24]>(), ca in any::<[u8; 32]>(),
        issued in 0u64..1 << 40, lifetime in any::<u16>(),
        domain in "[a-z0-9]{1,63}\\.[a-z0-9]{1,60}",
        endpoints in prop::collection::vec("[a-z0-9]{1,60}(\\.[a-z]{1,60}){0,2}:[1-9][0-9]{0,3}", 1..=MOST_ENDPOINTS),
    ) -> Token {
        Token {
            id: InviteId(id), secret: Secret(secret), ca: Fingerprint(ca),
            issued: UNIX_EPOCH + Duration::from_secs(issued), lifetime,
            inviter: domain.parse().unwrap(),
            endpoints: endpoints.iter().map(|endpoint| endpoint.parse().unwrap()).collect(),
        }
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read(token in any_token()) {
        let text = token.to_string();
        prop_assert_eq!(text.parse::<Token>().unwrap(), token);
        prop_assert!(text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'));
    }

    #[test]
    fn a_token_that_is_cut_says_so(token in any_token(), share in 0.0..1.0) {
        let text = token.to_string();
        let cut = PREFIX.len() + ((text.len() - PREFIX.len()) as f64 * share) as usize;
        let refused = text[..cut].parse::<Token>().unwrap_err();
        prop_assert!(matches!(refused, BadToken::CutOff { found, .. } if found == cut), "{}", refused);
    }

    #[test]
    fn a_token_that_was_changed_is_none(token in any_token(), share in 0.0..1.0, by in "[A-Za-z0-9_-]") {
        let text = token.to_string();
        let at = PREFIX.len() + ((text.len() - PREFIX.len()) as f64 * share) as usize;
        let changed = format!("{}{by}{}", &text[..at], &text[at + 1..]);
        prop_assume!(changed != text);
        prop_assert!(changed.parse::<Token>().is_err());
    }

    #[test]
    fn no_text_panics(text in ".{0,300}", body in "[A-Za-z0-9_-]{0,400}") {
        let _ = text.parse::<Token>();
        let _ = format!("{PREFIX}{body}").parse::<Token>();
    }
}

#[test]
fn terminals_and_mail_may_break_lines() {
    let text = token().to_string();
    let broken = format!("  {}\n{}\r\n", &text[..40], &text[40..]);
    assert_eq!(broken.parse::<Token>().unwrap(), token());
}

#[test]
fn each_mistake_has_its_own_words() {
    let text = token().to_string();
    let said = |text: &str| text.parse::<Token>().unwrap_err().to_string();
    assert!(said("").starts_with("this is no invitation"), "{}", said(""));
    assert!(said("kubectl get pods").starts_with("this is no invitation"));
    assert!(said(&text.replace("isthmus1_", "isthmus2_")).contains("another version"));
    assert!(said(PREFIX).contains("cut off"));
    assert!(said(&format!("{text}AAAA")).contains("something follows"));
    assert!(said(&format!("{}!{}", &text[..50], &text[51..])).contains("a character that none has"));
    let last = if text.ends_with('A') { 'Q' } else { 'A' };
    assert!(said(&format!("{}{last}", &text[..text.len() - 1])).contains("checksum"));
}

#[test]
fn debug_shows_no_secret() {
    let text = format!("{:?}", token());
    assert!(text.contains("Secret(..)") && !text.contains("2, 2"), "{text}");
}
