//! The body of an event stream: what waits for one page, sent as fast as it takes it.

use crate::admin::Connection;
use axum::body::HttpBody;
use bytes::Bytes;
use hyper::body::Frame;
use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tokio::sync::{OwnedSemaphorePermit, mpsc};

/// See the module.
pub(super) struct Events {
    from: mpsc::Receiver<Bytes>,
    connection: Arc<Connection>,
    /// Its place among those who look.
    _place: OwnedSemaphorePermit,
}

impl Events {
    pub(super) fn new(from: mpsc::Receiver<Bytes>, connection: Arc<Connection>, place: OwnedSemaphorePermit) -> Self {
        Self { from, connection, _place: place }
    }
}

impl HttpBody for Events {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        // More is asked for only once there is room: a page that takes nothing runs out of time, any other goes on.
        self.connection.goes_on();
        self.from.poll_recv(context).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
    }
}
