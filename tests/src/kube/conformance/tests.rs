use super::*;
use serde_json::{Value, json};

fn node(text: &str, labels: &[&str], state: &str, message: &str) -> Value {
    json!({
        "LeafNodeType": "It", "LeafNodeText": text, "LeafNodeLabels": labels, "State": state,
        "ContainerHierarchyTexts": ["", "A service"], "ContainerHierarchyLabels": [null, ["ClusterIP"]],
        "Failure": {"Message": message},
    })
}

fn parse(nodes: &[Value]) -> Result<Report, String> {
    Report::parse(&json!([{"SuiteDescription": "Conformance Suite", "SpecReports": nodes}]).to_string())
}

#[test]
fn each_spec_gets_its_verdict_and_its_reason() {
    let report = parse(&[
        node("is imported", &["Required"], "passed", ""),
        node("has | ports", &["Required"], "failed", "\n  Timed out after 20s.\nno ports\nmore"),
        node("has a name", &["Required", "DNS"], "skipped", ""),
        node("has labels", &["Optional"], "skipped", "one cluster only"),
    ]);
    let report = report.unwrap();
    let verdicts: Vec<_> = report.specs.iter().map(|spec| (spec.required, spec.verdict.clone())).collect();
    let not_run = |why: &str| Verdict::NotRun(why.into());
    assert_eq!(
        verdicts,
        [
            (true, Verdict::Passed),
            (true, Verdict::Failed("Timed out after 20s. no ports".into())),
            (true, not_run("it runs commands inside pods, and no pod has containers here")),
            (false, not_run("one cluster only")),
        ]
    );
    assert!(!report.conforms());
    let table = report.table();
    assert!(table.starts_with("Required: 1 passed, 1 failed, 1 not run. Optional: 0 passed, 0 failed, 1 not run.\n"));
    assert!(
        table.contains("| A service has \\| ports | required | failed: Timed out after 20s. no ports |"),
        "{table}"
    );
}

#[test]
fn nothing_run_is_not_conformance() {
    let passed = node("is imported", &["Required"], "passed", "");
    let skipped = node("has a name", &["Required", "DNS"], "skipped", "");
    let optional = node("has labels", &["Optional"], "failed", "no");
    assert!(parse(&[passed.clone(), skipped.clone(), optional]).unwrap().conforms());
    assert!(!parse(&[skipped]).unwrap().conforms());
    assert_eq!(parse(&[]).unwrap_err(), "ginkgo's report: found no spec, expected some");
    let mut before = node("", &[], "failed", "is the MCS API installed?");
    before["LeafNodeType"] = "BeforeSuite".into();
    assert_eq!(parse(&[before, passed]).unwrap_err(), "BeforeSuite failed: is the MCS API installed?");
}

#[test]
fn what_is_no_report_is_refused() {
    assert!(Report::parse("{}").unwrap_err().starts_with("ginkgo's report: "));
    assert!(Report::parse("[{\"SpecReports\":null}]").unwrap_err().contains("found no spec"));
}
