//! ● A query's bytes to its answer's.

use crate::{
    answer::{Answer, answer, authority},
    zone::Zone,
};
use hickory_proto::{
    op::{Edns, Message, MessageType, Metadata, OpCode, ResponseCode},
    rr::{DNSClass, RecordType},
};

/// The most that is sent in a datagram, and asked for: it fits into any path's packet (DNS flag day 2020).
const DATAGRAM: u16 = 1232;
/// What every client takes in a datagram (RFC 1035, section 4.2.1).
const SMALL_DATAGRAM: u16 = 512;
/// A record of an address whose name is one of before.
const SMALLEST_RECORD: usize = 16;
/// A message's header.
const HEADER: usize = 12;

/// How a query came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// In a datagram: what does not fit into one is cut off, and marked as such.
    Udp,
    /// On a connection.
    Tcp,
}

/// The answer to `query`, if it is to have any: none to what is no query, lest two servers answer each other for ever.
pub fn respond(zone: &Zone, query: &[u8], transport: Transport) -> Option<Vec<u8>> {
    let request = match Message::from_vec(query) {
        Ok(request) => request,
        Err(_) => return malformed(query),
    };
    if request.metadata.message_type == MessageType::Response {
        return None;
    }
    let response = response(zone, &request);
    let largest = match (transport, &request.edns) {
        (Transport::Tcp, _) => u16::MAX,
        (Transport::Udp, Some(edns)) => edns.max_payload().clamp(SMALL_DATAGRAM, DATAGRAM),
        (Transport::Udp, None) => SMALL_DATAGRAM,
    };
    fitted(response, largest.into())
}

fn response(zone: &Zone, request: &Message) -> Message {
    let mut response = Message::response(request.metadata.id, request.metadata.op_code);
    response.metadata = Metadata::response_from_request(&request.metadata);
    response.add_queries(request.queries.iter().cloned());
    if let Some(asked) = &request.edns {
        let mut edns = Edns::new();
        edns.set_max_payload(DATAGRAM).set_version(0);
        response.set_edns(edns);
        if asked.version() > 0 {
            response.metadata.response_code = ResponseCode::BADVERS;
            return response;
        }
    }
    response.metadata.response_code = match (request.metadata.op_code, request.queries.as_slice()) {
        (OpCode::Query, [query]) => {
            let is_in = matches!(query.query_class(), DNSClass::IN | DNSClass::ANY);
            let is_transfer = matches!(query.query_type(), RecordType::AXFR | RecordType::IXFR);
            match answer(zone, query.name(), query.query_type()) {
                Answer::NotOurs => ResponseCode::Refused,
                _ if !is_in || is_transfer => ResponseCode::Refused,
                Answer::NotKnown => ResponseCode::ServFail,
                Answer::NoSuchName => {
                    response.metadata.authoritative = true;
                    response.add_authority(authority(zone));
                    ResponseCode::NXDomain
                }
                Answer::Records { mut answers, additionals } => {
                    response.metadata.authoritative = true;
                    if answers.is_empty() {
                        response.add_authority(authority(zone));
                    } else {
                        // Who takes the first of several addresses takes another one each time: ids are random.
                        let first = usize::from(request.metadata.id) % answers.len();
                        answers.rotate_left(first);
                    }
                    response.add_answers(answers).add_additionals(additionals);
                    ResponseCode::NoError
                }
            }
        }
        (OpCode::Query, _) => ResponseCode::FormErr,
        _ => ResponseCode::NotImp,
    };
    response
}

/// `response` in at most `largest` bytes: first what nobody asked for is left out, then, marked as truncated, answers.
fn fitted(mut response: Message, largest: usize) -> Option<Vec<u8>> {
    if let Some(whole) = whole(&response, largest) {
        return Some(whole);
    }
    response.additionals.clear();
    if let Some(whole) = whole(&response, largest) {
        return Some(whole);
    }
    response.metadata.truncation = true;
    let mut all = std::mem::take(&mut response.answers);
    all.truncate(largest / SMALLEST_RECORD);
    let mut with = |count: usize| {
        response.answers = all[..count].to_vec();
        whole(&response, largest)
    };
    // As many as fit. How long one is depends on the names before it.
    let (mut fits, mut beyond) = (0, all.len() + 1);
    while fits + 1 < beyond {
        let middle = (fits + beyond) / 2;
        match with(middle) {
            Some(_) => fits = middle,
            None => beyond = middle,
        }
    }
    with(fits)
}

/// The bytes of `response`, if there are no more than `largest`.
fn whole(response: &Message, largest: usize) -> Option<Vec<u8>> {
    let bytes = response.to_vec().ok()?;
    // Beyond 64 KiB it is the encoder that leaves out and marks.
    let is_whole = is_truncated(&bytes) == response.metadata.truncation;
    (is_whole && bytes.len() <= largest).then_some(bytes)
}

fn is_truncated(message: &[u8]) -> bool {
    message.get(2).is_some_and(|flags| flags & 2 != 0)
}

/// For what begins like a query.
fn malformed(query: &[u8]) -> Option<Vec<u8>> {
    let [high, low, flags, ..] = *query else { return None };
    if query.len() < HEADER || flags & 0x80 != 0 {
        return None;
    }
    Message::error_msg(u16::from_be_bytes([high, low]), OpCode::Query, ResponseCode::FormErr).to_vec().ok()
}

#[cfg(test)]
mod tests;
