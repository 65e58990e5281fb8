//! The keys of a policy by which streams find an endpoint or a cluster.

use super::{
    DURATION, Key,
    LeftOut::{Rule, Text},
    TIMES, key,
};

pub(super) const KEYS: &[Key] = &[
    key(
        ("policy", "balance"),
        "leastRequest, roundRobin, random or sourceAddress",
        Text("leastRequest"),
        "roundRobin",
        "Which endpoint takes the next stream. `leastRequest`: of two at random, the one that is less loaded. `roundRobin`: one after the other, on each core. `random`: any. `sourceAddress`: the client's own one, by its address; at an import that is `sessionAffinity: clientIP`.",
    ),
    key(
        ("policy", "near"),
        "off, zone or node",
        Text("off"),
        "zone",
        "Of an export: which endpoints are preferred. `zone`: those in the gateway's `zone`. `node`: those on its `node`, then those in its zone. One that costs three times as much as a farther one gives way to it.",
    ),
    key(
        ("policy", "slowStart"),
        "off, or a duration from 100ms to 1h",
        Text("off"),
        "10s",
        "Of an export: how long an endpoint that is new, or back, takes to get its whole share: it begins with a tenth of it. Not with `sourceAddress`.",
    ),
    key(
        ("policy", "outliers"),
        "a mapping",
        Rule("its keys' defaults"),
        "{resets: 3}",
        "Of an export: which endpoints are left out for what their streams show.",
    ),
    key(
        ("policy", "failover"),
        "a mapping",
        Rule("its keys' defaults"),
        "{healthy: 70%}",
        "When streams go to other clusters than the preferred one. `panic` of an export, the others of an import.",
    ),
    key(
        ("policy.outliers", "failures"),
        TIMES,
        Text("3"),
        "5",
        "An endpoint is left out after so many failures to connect in a row.",
    ),
    key(
        ("policy.outliers", "resets"),
        TIMES,
        Text("5"),
        "3",
        "The same after so many streams in a row that it reset before its first byte.",
    ),
    key(
        ("policy.outliers", "slowerThan"),
        "off, or a number from 2 to 1000",
        Text("off"),
        "10",
        "The same when it takes so many times as long as the median endpoint, three seconds in a row. `leastRequest` hardly uses a slow endpoint anyway.",
    ),
    key(
        ("policy.outliers", "ejection"),
        DURATION,
        Text("1s"),
        "5s",
        "For how long it is left out the first time. Each further time is twice as long. Then one stream tries it.",
    ),
    key(
        ("policy.outliers", "longestEjection"),
        DURATION,
        Text("60s"),
        "5m",
        "For how long it is left out at most. One that was well for as long begins with `ejection` again.",
    ),
    key(
        ("policy.outliers", "maxEjected"),
        "a percentage from 0% to 100%",
        Text("50%"),
        "30%",
        "How many of the endpoints may be left out at the same time, rounded up; never all of them.",
    ),
    key(
        ("policy.failover", "healthy"),
        "a percentage from 0% to 100%",
        Text("50%"),
        "70%",
        "While fewer of this cluster's endpoints are healthy, its share of streams shrinks with them: the rest goes to the next cluster. 0%: it keeps all of them while one is healthy.",
    ),
    key(
        ("policy.failover", "panic"),
        "a percentage from 0% to 99%",
        Text("0%"),
        "20%",
        "Of an export: while no more of its endpoints are healthy, health is not heeded, as the fault is probably elsewhere. 0%: only when none is.",
    ),
    key(
        ("policy.failover", "recovery"),
        DURATION,
        Text("10s"),
        "30s",
        "How long a cluster that is well again takes to get its whole share back.",
    ),
];
