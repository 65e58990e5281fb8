use super::*;
use serde_json::json;

fn answer() -> serde_json::Value {
    json!({
        "cluster": "west", "service": "shop/api", "silent_cores": [], "of_a_newer_version": 7,
        "imports": [{
            "name": "shop/api:80", "listen": "127.0.0.1:18080", "affinity": "local", "weights": null, "sticky": false,
            "policy": {},
            "clusters": [
                {"cluster": "west", "here": true, "ready": 2, "healthy": 0, "live": true, "rtt_ms": null, "part": 0.0,
                 "percent": 0.0, "message": "no endpoint is healthy"},
                {"cluster": "east", "here": false, "ready": 3, "healthy": null, "live": true, "rtt_ms": 12.34, "part": 1.0,
                 "percent": 100.0, "message": null},
            ],
        }],
        "exports": [{
            "name": "shop/api:80", "policy": {"balance": "roundRobin"},
            "endpoints": [
                {"address": "10.0.0.2:8080", "health": "ejected", "message": "does not take connections", "ejected_ms": 1500.0,
                 "ejected_by": 2, "score": 1.5, "inflight": 3, "connect_ms": 0.25, "answer_ms": null, "failures": 3,
                 "resets": 0, "share": 1.0, "distance": "far", "percent": 0.0},
                {"address": "10.0.0.3:8080", "health": "healthy", "message": null, "ejected_ms": null, "ejected_by": 0,
                 "score": 1.0, "inflight": 0, "connect_ms": null, "answer_ms": null, "failures": 0, "resets": 0, "share": 0.3,
                 "distance": "zone", "percent": 100.0},
            ],
        }],
    })
}

fn view(answer: &serde_json::Value) -> View {
    View::new(answer.to_string(), "127.0.0.1:15020").unwrap()
}

#[test]
fn people_see_candidates_scores_and_reasons() {
    let text = view(&answer()).to_string();
    let expected = "\
shop/api at a gateway of west

imported at 127.0.0.1:18080 as shop/api:80, affinity local
CLUSTER  READY  HEALTHY  TUNNEL  RTT      PART  STREAMS  MESSAGE
west     2      0        here    -        0%    0%       no endpoint is healthy
east     3      -        live    12.3 ms  100%  100%     -

served here as shop/api:80, balance roundRobin, near off
ENDPOINT       HEALTH   DISTANCE  SCORE  INFLIGHT  CONNECT  ANSWER  STREAMS  MESSAGE
10.0.0.2:8080  ejected  far       1.50   3         0.2 ms   -       0%       does not take connections, left out by 2 cores for 1.5 s
10.0.0.3:8080  healthy  zone      1.00   0         -        -       100%     new: 30% of its share
";
    assert_eq!(text, expected);
}

#[test]
fn people_see_who_decides_and_what_is_taken() {
    let mut answer = answer();
    answer["taken"] = json!([
        {"name": "shop/api:80", "side": "ingress", "streams": 12, "pending": 1, "retrying": 0}
    ]);
    answer["decisions"] = json!([
        {"name": "shop/api:80", "allowed": false, "by": "callers:default", "otherwise": null},
        {"name": "shop/api:81", "allowed": true, "by": null, "otherwise": "callers:web"},
    ]);
    let view = view(&answer);
    let expected = "
limits
PORT         SIDE     STREAMS  PENDING  RETRYING
shop/api:80  ingress  12       1        0

access policies
PORT         DECISION  BY               DRY-RUN
shop/api:80  denied    callers:default  -
shop/api:81  allowed   -                callers:web
";
    let text = view.to_string();
    assert!(text.ends_with(expected), "{text}");
    assert_eq!(problem(&view.trace).as_deref(), Some("shop/api:80 would be denied by callers:default"));
}

#[test]
fn scripts_see_everything_and_judge_by_the_exit_code() {
    let mut answer = answer();
    let found = view(&answer);
    assert_eq!(serde_json::to_value(&found).unwrap(), answer);
    assert_eq!(problem(&found.trace), None);
    answer["imports"][0]["clusters"][1]["percent"] = json!(0.0);
    assert_eq!(problem(&view(&answer).trace).unwrap(), "streams to 127.0.0.1:18080 would go nowhere");
    answer["imports"] = json!([]);
    answer["exports"][0]["endpoints"] = json!([]);
    assert_eq!(problem(&view(&answer).trace).unwrap(), "no endpoint would take a stream for shop/api:80");
    answer["exports"] = json!([]);
    assert_eq!(problem(&view(&answer).trace).unwrap(), "west neither imports nor exports shop/api");
    assert!(View::new("{}", "a").is_err());
}
