use super::{Step, parse};

fn section(line: usize, machine: &str, commands: &str, shows: Option<&str>) -> Step {
    Step::Section { line, machine: machine.into(), commands: commands.into(), shows: shows.map(str::to_owned) }
}

#[test]
fn commands_belong_to_machines_and_outputs_to_the_last_of_them() {
    let document = "# A guide\n\n```sh\n# on west\none\n\n# on the client in west: any of them\ntwo\n```\n\nIt says\n\n```text\nthree\n```\n";
    let steps = parse(document, None).unwrap();
    assert_eq!(steps, [section(4, "west", "one\n\n", None), section(7, "client in west", "two\n", Some("three"))]);
}

#[test]
fn files_name_their_machine() {
    let steps = parse("```yaml\n# on east: conf/east.yaml\na: 1\nb: 2\n```\n", None).unwrap();
    let text = "a: 1\nb: 2\n".to_owned();
    assert_eq!(steps, [Step::File { line: 1, machine: "east".into(), path: "conf/east.yaml".into(), text }]);
}

#[test]
fn what_another_test_uses_is_quoted() {
    let steps = parse("```yaml\n# from tests/a.yaml\na: 1\n```\n", None).unwrap();
    assert_eq!(steps, [Step::Quote { line: 1, path: "tests/a.yaml".into(), text: "a: 1\n".into() }]);
    assert_eq!(super::uncommented("# As users have it.\na: 1 # one\n"), "a: 1 # one\n");
}

#[test]
fn illustrations_say_why() {
    let steps = parse("Illustration: it takes a cloud.\n\n```sh\nkubectl get nodes\n```\n", None).unwrap();
    assert_eq!(steps, [Step::Illustration { line: 3, reason: "it takes a cloud.".into() }]);
}

#[test]
fn what_is_neither_run_nor_marked_is_wrong() {
    for (document, line) in [
        ("```sh\nls\n```\n", 2),
        ("```sh\n```\n", 1),
        ("```sh\n# on west\n\n```\n", 2),
        ("```yaml\na: 1\n```\n", 1),
        ("```yaml\n# on west\na: 1\n```\n", 1),
        ("```\nls\n```\n", 1),
        ("```text\nhello\n```\n", 1),
        ("```sh\n# on west\nls\n```\n```text\na\n```\n```text\nb\n```\n", 8),
        ("Illustration:\n```sh\nls\n```\n", 3),
        ("text\n\n```sh\n# on west\nls\n", 3),
    ] {
        let wrong = parse(document, None).unwrap_err();
        assert_eq!(wrong.iter().map(|wrong| wrong.line).collect::<Vec<_>>(), [line], "{document}: {wrong:?}");
    }
}

#[test]
fn everything_wrong_is_said_at_once() {
    let wrong = parse("```sh\nls\n```\n\n```yaml\na: 1\n```\n", None).unwrap_err();
    assert_eq!(wrong.len(), 2, "{wrong:?}");
}

#[test]
fn a_part_ends_at_the_next_heading() {
    let document = "```sh\nnot here\n```\n## This\n```sh\n# on west\nls\n```\n### Still\n```sh\n# on east\nls\n```\n## That\n```sh\nnor here\n```\n";
    assert_eq!(parse(document, Some("This")).unwrap().len(), 2);
    assert_eq!(parse(document, Some("Those")).unwrap_err()[0].line, 1);
}

#[test]
fn a_comment_about_a_machine_is_not_its_name() {
    for first in ["", "# on west\nls\n"] {
        assert!(parse(&format!("```sh\n{first}# on each of both sides, run\nls\n```\n"), None).is_err());
    }
    let steps = parse("```sh\n# on the web server in east\nls\n```\n", None).unwrap();
    assert_eq!(steps, [section(2, "web server in east", "ls\n", None)]);
}
