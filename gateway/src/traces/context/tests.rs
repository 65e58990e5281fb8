use super::*;
use proptest::prelude::*;

const SAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

#[test]
fn a_traceparent_is_read_and_written_as_w3c_has_it() {
    let parent = Parent::parse(SAMPLED).unwrap();
    let (trace, span) = (0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c, 0xb7ad_6b71_6920_3331);
    assert_eq!(parent, Parent { trace, span, sampled: true });
    assert_eq!(parent.text(), SAMPLED);
    let child = Context::child(&parent, &Ids::default());
    assert_eq!((child.trace, child.parent), (trace, Some(span)));
    assert_ne!(child.span, span);
    let text = child.traceparent();
    assert_eq!(Parent::parse(&text), Some(Parent { trace, span: child.span, sampled: true }), "{text}");
}

#[test]
fn flags_that_are_not_known_change_nothing() {
    let sampled = |flags: &str| Parent::parse(&SAMPLED.replace("-01", flags)).map(|parent| parent.sampled);
    assert_eq!(["-00", "-02", "-03", "-ff"].map(sampled), [Some(false), Some(false), Some(true), Some(true)]);
}

#[test]
fn a_later_version_may_say_more_and_this_one_may_not() {
    let later = format!("cc{}-what-comes", &SAMPLED[2..]);
    assert_eq!(Parent::parse(&later), Parent::parse(SAMPLED));
    assert_eq!(Parent::parse(&format!("{SAMPLED}-more")), None);
}

#[test]
fn what_is_no_traceparent_is_none() {
    for bad in [
        "",
        "00",
        "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
        "00-+af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-1",
    ] {
        assert_eq!(Parent::parse(bad), None, "{bad}");
    }
}

#[test]
fn ids_differ_between_spans_traces_and_cores() {
    let (ids, others) = (Ids::default(), Ids::default());
    let drawn: Vec<_> = [&ids, &others].into_iter().flat_map(|ids| (0..1000).map(|_| ids.first(ids.root()))).collect();
    let distinct = |of: &dyn Fn(&Context) -> u128| drawn.iter().map(of).collect::<std::collections::HashSet<_>>().len();
    assert_eq!(distinct(&|context| context.trace), 2000);
    assert_eq!(distinct(&|context| context.span.into()), 2000);
}

#[test]
fn a_root_is_told_as_it_was_decided_on() {
    let (ids, half) = (Ids::default(), Sampler::new(WHOLE / 2));
    for _ in 0..100 {
        let root = ids.root();
        let Context { trace, span, parent } = ids.first(root);
        // Others may have drawn meanwhile.
        ids.draw();
        assert_eq!(Parent::parse(&ids.unsampled(root)), Some(Parent { trace, span, sampled: false }));
        assert_eq!((half.takes(root, &ids), parent), (trace & (1 << 55) != 0, None));
    }
}

#[test]
fn the_ratio_is_that_of_the_random_bits() {
    let most = (1 << RANDOM_BITS) - 1;
    let (all, none, half) = (Sampler::new(WHOLE), Sampler::new(0), Sampler::new(WHOLE / 2));
    assert!(all.takes_bits(1 << RANDOM_BITS), "whose random bits are all 0");
    assert!(!none.takes_bits(most));
    assert!(half.takes_bits(1 << 55) && !half.takes_bits((1 << 55) - 1));
    assert!(!half.takes_bits(most << RANDOM_BITS), "other bits do not count");
    let ids = Ids::default();
    let tenth = Sampler::new(WHOLE / 10);
    let taken = (0..10_000).filter(|_| tenth.takes(ids.root(), &ids)).count();
    // Twelve standard deviations to each side.
    assert!((640..1360).contains(&taken), "{taken}");
}

proptest! {
    #[test]
    fn whoever_takes_a_tenth_takes_what_a_hundredth_does(low: u64) {
        let [tenth, hundredth] = [WHOLE / 10, WHOLE / 100].map(Sampler::new);
        prop_assert!(tenth.takes_bits(low) || !hundredth.takes_bits(low));
    }

    #[test]
    fn no_text_panics_and_what_is_read_is_whole(text in "(00|01|ff)?-?[0-9a-f]{0,33}-[0-9a-f]{0,17}-[0-9a-fx]{0,3}") {
        if let Some(parent) = Parent::parse(&text) {
            prop_assert!(parent.trace != 0 && parent.span != 0);
            prop_assert_eq!(&parent.text()[2..52], &text[2..52]);
        }
    }
}
