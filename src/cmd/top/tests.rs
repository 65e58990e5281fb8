use super::*;
use ratatui::{Terminal, backend::TestBackend, buffer::Cell, crossterm::event::KeyEvent};
use serde_json::json;

fn status() -> Vec<u8> {
    let link = |cluster: &str, state: &str, degraded: bool, message: Option<&str>| {
        json!({
            "cluster": cluster, "state": state, "transport": "tls", "direction": "dialled", "rtt_ms": 1.234, "streams_in": 3,
            "streams_out": 14, "tunnels": 2, "sync_age_seconds": 2.0, "cert_expiry": null, "message": message,
            "degraded": degraded, "gateways": {"reached": 1, "known": 2, "addresses": []},
        })
    };
    let status = json!({
        "cluster": "west", "clusterset": "demo", "version": "0.1.0", "ready": true, "not_ready": null,
        "table": {"version": 12, "age_seconds": 35.2},
        "links": [link("east", "up", true, Some("the clocks differ")), link("north", "down", false, Some("refused\u{1b}[2J"))],
        "services": [
            {"service": "shop/api", "port": 80, "kind": "import", "listen": "127.0.0.1:18080", "clusters": {"east": 2},
             "endpoints": [], "message": null},
        ],
        "identity": {"id": null, "not_after": null, "renews_at": null, "last_error": null}, "silent_cores": [], "control": null,
    });
    status.to_string().into_bytes()
}

fn metrics(opened: u32, bytes: u32) -> Vec<u8> {
    let labels = "service=\"shop/api:80\",peer=\"east\",direction=\"egress\"";
    format!(
        "isthmus_streams_active{{{labels}}} 3\nisthmus_streams_opened_total{{{labels}}} {opened}\n\
         isthmus_stream_bytes_total{{{labels},flow=\"down\"}} {bytes}\n"
    )
    .into_bytes()
}

/// After two looks, two seconds apart.
fn state() -> State {
    let (mut state, begin) = (State::new("127.0.0.1:15020".into()), Instant::now());
    state.take(&status(), &metrics(10, 0), begin).unwrap();
    state.take(&status(), &metrics(30, 4096), begin + Duration::from_secs(2)).unwrap();
    state
}

/// The lines of the screen.
fn screen(state: &State) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(120, 8)).unwrap();
    terminal.draw(|frame| view::draw(frame, state)).unwrap();
    let buffer = terminal.backend().buffer();
    let width = usize::from(buffer.area.width);
    let lines = buffer.content.chunks(width);
    lines.map(|line| line.iter().map(Cell::symbol).collect::<String>().trim_end().to_owned()).collect()
}

#[test]
fn links_are_shown_with_their_state_and_what_is_wrong() {
    let lines = screen(&state());
    assert_eq!(lines[0], "west of demo at 127.0.0.1:15020: ready");
    assert_eq!(lines[1].trim(), "1 links   2 services   3 streams");
    for (line, words) in [(2, "CLUSTER          STATE"), (3, "east             degraded"), (4, "north            down")]
    {
        assert!(lines[line].starts_with(words), "{lines:#?}");
    }
    assert!(lines[3].contains("1.2 ms") && lines[3].ends_with("the clocks differ"), "{lines:#?}");
    assert!(lines[4].ends_with("refused[2J"), "{lines:#?}");
    assert!(lines[7].contains("q end"), "{lines:#?}");
}

#[test]
fn services_and_streams_have_what_moves() {
    let mut state = state();
    assert!(state.act(Act::Next));
    let lines = screen(&state);
    assert!(lines[3].starts_with("shop/api:80") && lines[3].contains("east 2"), "{lines:#?}");
    assert!(state.act(Act::Show(Tab::Streams)));
    let lines = screen(&state);
    for part in ["shop/api:80", "east", "egress", "10.0", "2.0 KiB"] {
        assert!(lines[3].contains(part), "{part} is not in {lines:#?}");
    }
}

#[test]
fn one_moves_within_what_there_is() {
    let mut state = state();
    assert!(state.act(Act::Move(20)));
    assert_eq!(state.top, 1);
    assert!(screen(&state)[3].starts_with("north"));
    assert!(state.act(Act::Move(-20)));
    assert_eq!(state.top, 0);
}

#[test]
fn a_gateway_that_is_gone_is_told_and_the_last_answer_stays() {
    let mut state = state();
    state.miss("nothing listens on 127.0.0.1:15020");
    let lines = screen(&state);
    assert!(lines[7].starts_with("no news: nothing listens") && lines[3].starts_with("east"), "{lines:#?}");
    state.take(&status(), &metrics(1, 0), Instant::now()).unwrap();
    assert!(screen(&state)[7].contains("q end"), "a gateway that has restarted counts from zero");
    assert!(state.take(b"[]", b"", Instant::now()).is_err());
}

#[test]
fn the_documented_keys_do_what_is_documented() {
    let of = |code, modifiers| act(&Event::Key(KeyEvent::new(code, modifiers)));
    let plain = |code| of(code, KeyModifiers::NONE);
    assert_eq!(plain(KeyCode::Char('2')), Some(Act::Show(Tab::Services)));
    assert_eq!((plain(KeyCode::Tab), plain(KeyCode::Char('j'))), (Some(Act::Next), Some(Act::Move(1))));
    assert_eq!((plain(KeyCode::Char('q')), plain(KeyCode::Esc)), (Some(Act::End), Some(Act::End)));
    assert_eq!(of(KeyCode::Char('c'), KeyModifiers::CONTROL), Some(Act::End));
    assert_eq!((plain(KeyCode::Char('c')), plain(KeyCode::Char(' '))), (None, Some(Act::Stop)));
    let mut state = state();
    assert!(state.act(Act::Stop) && state.is_stopped() && !state.act(Act::End));
}
