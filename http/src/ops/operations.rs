//! What the document says of everything that is no resource: the index, probes, figures, files and itself.

use serde_json::{Value, json};

use super::INDEX;
use crate::openapi::{Access, Operation, object, schema};

const TAG: &str = "Operations";

/// The operations of what operators and explorers ask.
pub(crate) fn operations() -> Vec<Operation> {
    let of = |operation: Operation| operation.tag(TAG);
    let ok = json!({"status": "ok"});
    let index =
        INDEX.iter().map(|(name, path)| ((*name).to_owned(), format!("http://127.0.0.1:8000{path}").into()));
    let probe = |path, summary| {
        of(Operation::get(path, Access::Anybody, summary)).answers(200, "Yes", schema("Health"), ok.clone())
    };
    vec![
        of(Operation::get("/api/", Access::Anybody, "Name the entry points")).answers(
            200,
            "Their URLs",
            json!({"type": "object", "additionalProperties": {"type": "string", "format": "uri"}}),
            Value::Object(index.collect()),
        ),
        of(Operation::get("/api/schema/", Access::Anybody, "Show this document"))
            .answers(200, "OpenAPI 3.1", json!({"type": "object"}), json!({"openapi": "3.1.0"}))
            .conditional(),
        probe("/healthz", "Does the process live?"),
        probe("/readyz", "Is it ready?").says(
            "Only while the database answers, the stock ledger runs and no stop has begun; otherwise 503.",
        ),
        of(Operation::get("/metrics", Access::Anybody, "Show figures for Prometheus")).answers_with(
            200,
            "In Prometheus's text format",
            &["application/openmetrics-text"],
        ),
        of(Operation::get("/media/{folder}/{file}", Access::Anybody, "Fetch an image"))
            .says("Its URL is found where it is shown. It never changes, so it may be kept for ever.")
            .header("Range", "A part of it: `bytes=0-99`.", json!({"type": "string"}))
            .answers_with(200, "The image", &["image/jpeg", "image/png"])
            .answers_with(206, "The part", &["image/jpeg", "image/png"])
            .conditional()
            .error(412)
            .error(416),
    ]
}

/// The schemas of this file.
pub(crate) fn schemas() -> Vec<(&'static str, Value)> {
    vec![("Health", object(json!({"status": {"const": "ok"}})))]
}
