//! One scrape: everything summed once, then written in the OpenMetrics text format.

use super::{
    Metrics,
    counter::HistogramSum,
    definitions::{DEFINITIONS, Definition, Kind},
    process::Process,
    streams::StreamTotals,
};
use crate::status::{CoreReport, Status, TunnelReport};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabel, LabelSetEncoder, MetricEncoder, NoLabelSet, text},
    metrics::{MetricType, exemplar::Exemplar},
    registry::Registry,
};
use std::{
    borrow::Cow,
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

/// The media type of [`text()`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What a scrape is made of.
#[derive(Debug)]
pub(super) struct Scrape {
    pub(super) metrics: Arc<Metrics>,
    pub(super) streams: Vec<StreamTotals>,
    pub(super) tunnels: Vec<TunnelReport>,
    pub(super) status: Status,
    pub(super) process: Process,
    pub(super) silences: Vec<Duration>,
}

/// A metric's value, for the labels that its definition names.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Sample {
    labels: Vec<Cow<'static, str>>,
    value: Value,
}

#[derive(Debug, Clone, PartialEq)]
enum Value {
    Whole(u64),
    Number(f64),
    Histogram(HistogramSum),
}

/// The samples of one metric.
#[derive(Debug, Default)]
pub(super) struct Samples(Vec<Sample>);

/// Everything that `metrics` has counted, and what `status` and the cores' reports say at this moment, as text.
///
/// # Errors
/// The text cannot be written: never, to a string.
pub fn text(metrics: &Arc<Metrics>, status: Status, reports: &[Option<CoreReport>]) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    let now = Instant::now();
    registry.register_collector(Box::new(Scrape {
        metrics: metrics.clone(),
        streams: metrics.families.totals(),
        tunnels: reports.iter().flatten().flat_map(|report| report.tunnels.iter().cloned()).collect(),
        status,
        process: Process::read(),
        silences: metrics.cores.iter().map(|core| core.silence(now)).collect(),
    }));
    let mut text = String::new();
    text::encode(&mut text, &registry)?;
    Ok(text)
}

impl Samples {
    /// A whole number.
    pub(super) fn whole<const N: usize>(&mut self, labels: [Cow<'static, str>; N], value: u64) {
        self.0.push(Sample { labels: labels.into(), value: Value::Whole(value) });
    }

    /// A number with a fraction.
    pub(super) fn number<const N: usize>(&mut self, labels: [Cow<'static, str>; N], value: f64) {
        self.0.push(Sample { labels: labels.into(), value: Value::Number(value) });
    }

    /// A histogram.
    pub(super) fn histogram<const N: usize>(&mut self, labels: [Cow<'static, str>; N], value: HistogramSum) {
        self.0.push(Sample { labels: labels.into(), value: Value::Histogram(value) });
    }
}

impl Collector for Scrape {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        DEFINITIONS.iter().try_for_each(|definition| write(definition, self, &mut encoder))
    }
}

fn write(definition: &Definition, scrape: &Scrape, encoder: &mut DescriptorEncoder) -> fmt::Result {
    let mut samples = Samples::default();
    (definition.read)(scrape, &mut samples);
    let mut metric = encoder.encode_descriptor(definition.name, definition.help, None, definition.kind.into())?;
    for sample in &samples.0 {
        debug_assert_eq!(sample.labels.len(), definition.labels.len(), "{}", definition.name);
        if definition.labels.is_empty() {
            write_value(&sample.value, definition.kind, &mut metric)?;
        } else {
            let labels = Labels { names: definition.labels, values: &sample.labels };
            write_value(&sample.value, definition.kind, &mut metric.encode_family(&labels)?)?;
        }
    }
    Ok(())
}

fn write_value(value: &Value, kind: Kind, metric: &mut MetricEncoder) -> fmt::Result {
    match (value, kind) {
        (Value::Whole(value), Kind::Counter) => metric.encode_counter(value, NO_EXEMPLAR),
        (Value::Whole(value), _) => metric.encode_gauge(value),
        (Value::Number(value), _) => metric.encode_gauge(value),
        (Value::Histogram(sum), _) => {
            metric.encode_histogram::<NoLabelSet>(sum.seconds(), sum.count(), &sum.buckets(), None)
        }
    }
}

const NO_EXEMPLAR: Option<&Exemplar<NoLabelSet, u64>> = None;

impl From<Kind> for MetricType {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Counter => Self::Counter,
            Kind::Gauge => Self::Gauge,
            Kind::Histogram => Self::Histogram,
        }
    }
}

/// A definition's labels with a sample's values.
struct Labels<'s> {
    names: &'static [&'static str],
    values: &'s [Cow<'static, str>],
}

impl prometheus_client::encoding::EncodeLabelSet for Labels<'_> {
    fn encode(&self, encoder: &mut LabelSetEncoder) -> fmt::Result {
        let mut pairs = self.names.iter().zip(self.values);
        pairs.try_for_each(|(&name, value)| (name, value.as_ref()).encode(encoder.encode_label()))
    }
}

#[cfg(test)]
mod tests;
