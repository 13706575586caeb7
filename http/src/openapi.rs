//! What an operation of the API looks like in OpenAPI 3.1, written down beside its handler.
//!
//! Each resource has a file `operations.rs` that says, with the same constants by which its handlers judge, what they take
//! and give: [`Operation`]s for its routes and the schemas of its bodies. What follows from who may call, from a body or
//! from a list (the statuses of their errors) is added here, so that it is the same everywhere. `docs` puts it all
//! together and serves it; a test holds it against the route table.

use serde_json::{Map, Value, json};

/// Who may call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// Anybody; a token is not even looked at.
    Anybody,
    /// Anybody, but a token that is sent must be good.
    Viewer,
    User,
    Admin,
}

/// One method of one path.
#[derive(Clone, Debug)]
pub(crate) struct Operation {
    pub(crate) method: &'static str,
    pub(crate) path: &'static str,
    pub(crate) access: Access,
    document: Map<String, Value>,
    parameters: Vec<Value>,
    responses: Map<String, Value>,
}

macro_rules! methods {
    ($($method:ident)*) => {$(
        pub(crate) fn $method(path: &'static str, access: Access, summary: &str) -> Self {
            Self::new(stringify!($method), path, access, summary)
        }
    )*};
}

impl Operation {
    methods!(get post put patch delete);

    fn new(method: &'static str, path: &'static str, access: Access, summary: &str) -> Self {
        let document = Map::from_iter([("summary".to_owned(), json!(summary))]);
        let mut operation =
            Self { method, path, access, document, parameters: Vec::new(), responses: Map::new() };
        // What can happen to every request.
        operation = operation.error(429).error(500).error(503);
        if access != Access::Anybody {
            operation = operation.error(401);
        }
        if access == Access::Admin {
            operation = operation.error(403);
        }
        for name in path.split('{').skip(1).filter_map(|part| part.split('}').next()) {
            operation = operation.path_parameter(name);
        }
        operation
    }

    fn path_parameter(self, name: &str) -> Self {
        let schema = match name {
            "folder" => json!({"type": "string", "pattern": "^[0-9a-f]{2}$"}),
            "file" => json!({"type": "string", "pattern": "^[0-9a-f]{30}(\\.small)?\\.(jpg|png)$"}),
            _ => schema("Id"),
        };
        self.parameter("path", name, "", schema).error(404)
    }

    fn parameter(mut self, place: &str, name: &str, description: &str, schema: Value) -> Self {
        let mut parameter = json!({"in": place, "name": name, "required": place == "path"});
        parameter["schema"] = schema;
        if !description.is_empty() {
            parameter["description"] = description.into();
        }
        self.parameters.push(parameter);
        self
    }

    pub(crate) fn says(mut self, description: &str) -> Self {
        self.document.insert("description".to_owned(), description.into());
        self
    }

    pub(crate) fn tag(mut self, tag: &str) -> Self {
        self.document.insert("tags".to_owned(), json!([tag]));
        self
    }

    /// A filter; a value that is no good is a 400.
    pub(crate) fn query(self, name: &str, description: &str, schema: Value) -> Self {
        self.parameter("query", name, description, schema).error(400)
    }

    pub(crate) fn header(self, name: &str, description: &str, schema: Value) -> Self {
        self.parameter("header", name, description, schema)
    }

    /// It answers with a page of these.
    pub(crate) fn page_of(self, name: &str, example: &Value) -> Self {
        let description = "Which page, from 1. One past the end is a 404.";
        let page = json!({
            "type": "object",
            "required": ["count", "next", "previous", "results"],
            "properties": {
                "count": {"type": "integer", "minimum": 0, "description": "How many there are in all."},
                "next": {"type": ["string", "null"], "format": "uri"},
                "previous": {"type": ["string", "null"], "format": "uri"},
                "results": {"type": "array", "maxItems": 100, "items": schema(name)},
            },
        });
        let example = json!({"count": 1, "next": null, "previous": null, "results": [example]});
        let number = json!({"type": "integer", "minimum": 1, "default": 1});
        let size = json!({"type": "integer", "minimum": 1, "maximum": 100, "default": 10});
        self.parameter("query", "page", description, number)
            .parameter("query", "page_size", "How many on a page.", size)
            .answers(200, "A page", page, example)
            .error(404)
    }

    /// It takes JSON.
    pub(crate) fn takes(self, name: &str, is_required: bool, example: &Value) -> Self {
        let body = json!({"required": is_required, "content": {"application/json": {
            "schema": schema(name), "example": example,
        }}});
        self.body(body)
    }

    /// It takes JSON, or a form with a file.
    pub(crate) fn takes_file(self, name: &str, form: &str, example: &Value) -> Self {
        let body = json!({"required": true, "content": {
            "application/json": {"schema": schema(name), "example": example},
            "multipart/form-data": {"schema": schema(form)},
        }});
        self.body(body)
    }

    fn body(mut self, body: Value) -> Self {
        self.document.insert("requestBody".to_owned(), body);
        self.error(400).error(408).error(413).error(415)
    }

    /// It answers with JSON of this schema.
    pub(crate) fn answers(mut self, status: u16, description: &str, schema: Value, example: Value) -> Self {
        let mut response = json!({"description": description, "headers": request_id()});
        let content = &mut response["content"]["application/json"];
        (content["schema"], content["example"]) = (schema, example);
        self.responses.insert(status.to_string(), response);
        self
    }

    /// It answers with something else than JSON.
    pub(crate) fn answers_with(mut self, status: u16, description: &str, media_types: &[&str]) -> Self {
        let content = media_types.iter().map(|name| {
            let is_text = name.starts_with("text/");
            ((*name).to_owned(), if is_text { json!({"schema": {"type": "string"}}) } else { json!({}) })
        });
        let content = Value::Object(content.collect());
        let response = json!({"description": description, "content": content, "headers": request_id()});
        self.responses.insert(status.to_string(), response);
        self
    }

    /// It answers without a body.
    pub(crate) fn answers_nothing(mut self, status: u16, description: &str) -> Self {
        let response = json!({"description": description, "headers": request_id()});
        self.responses.insert(status.to_string(), response);
        self
    }

    /// A header of the answer with this status, which was declared before.
    pub(crate) fn with_header(mut self, status: u16, name: &str, description: &str) -> Self {
        let header = json!({"description": description, "schema": {"type": "string"}});
        if let Some(response) = self.responses.get_mut(&status.to_string()) {
            response["headers"][name] = header;
        }
        self
    }

    /// It can be answered with this error, in the shape that all errors of this status have.
    pub(crate) fn error(mut self, status: u16) -> Self {
        let reference = json!({"$ref": format!("#/components/responses/{status}")});
        self.responses.entry(status.to_string()).or_insert(reference);
        self
    }

    /// As [`Operation::error`], with a word on when that is.
    pub(crate) fn error_when(mut self, status: u16, when: &str, schema: Value, example: Value) -> Self {
        self.responses.remove(&status.to_string());
        self.answers(status, when, schema, example)
    }

    /// A read that knows conditions.
    pub(crate) fn conditional(self) -> Self {
        let description = "The `ETag` of an answer that you have: if it is still true, the answer is a 304.";
        self.header("If-None-Match", description, json!({"type": "string"}))
            .with_header(200, "ETag", "What tells this answer from others.")
            .answers_nothing(304, "Nothing has changed.")
    }

    /// The statuses that are declared.
    #[cfg(test)]
    pub(crate) fn statuses(&self) -> impl Iterator<Item = u16> {
        self.responses.keys().filter_map(|status| status.parse().ok())
    }

    /// Its object in the document.
    pub(crate) fn into_document(self) -> Value {
        let mut document = self.document;
        let id = format!("{}{}", self.method, self.path.replace(['/', '{', '}'], "_"));
        document.insert("operationId".to_owned(), id.replace("__", "_").trim_end_matches('_').into());
        if !self.parameters.is_empty() {
            document.insert("parameters".to_owned(), self.parameters.into());
        }
        document.insert("responses".to_owned(), self.responses.into());
        let security = match self.access {
            Access::Anybody => json!([]),
            Access::Viewer => json!([{}, {"bearer": []}]),
            Access::User | Access::Admin => json!([{"bearer": []}]),
        };
        document.insert("security".to_owned(), security);
        document.into()
    }
}

/// A schema of the document by its name.
pub(crate) fn schema(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

/// An object whose members are all there.
pub(crate) fn object(properties: Value) -> Value {
    let names: Vec<_> = properties.as_object().into_iter().flat_map(Map::keys).cloned().collect();
    let mut object = json!({"type": "object", "required": names, "additionalProperties": false});
    object["properties"] = properties;
    object
}

/// An object of which only these members must be there.
pub(crate) fn body(required: &[&str], properties: Value) -> Value {
    let mut body = json!({"type": "object"});
    body["properties"] = properties;
    if !required.is_empty() {
        body["required"] = json!(required);
    }
    body
}

/// Text of at most so many characters.
pub(crate) fn text(max: usize) -> Value {
    json!({"type": "string", "maxLength": max})
}

/// Text that is not blank.
pub(crate) fn name(max: usize) -> Value {
    json!({"type": "string", "minLength": 1, "maxLength": max})
}

/// `true` or `false`.
pub(crate) fn flag() -> Value {
    json!({"type": "boolean"})
}

/// The orders of a list by these terms.
pub(crate) fn ordering(terms: &[&str]) -> Value {
    let terms = terms.iter().flat_map(|term| [(*term).to_owned(), format!("-{term}")]).collect::<Vec<_>>();
    json!({"type": "string", "examples": terms, "pattern": format!("^({0})(,({0}))*$", terms.join("|"))})
}

fn request_id() -> Value {
    json!({"X-Request-Id": {"$ref": "#/components/headers/X-Request-Id"}})
}

/// What all errors of a status look like.
pub(crate) fn errors() -> Value {
    let detail = |text: &str| json!({"detail": text});
    let entry = |description: &str, shape: Value, examples: Value| {
        let content = json!({"application/json": {"schema": shape, "examples": examples}});
        json!({"description": description, "content": content, "headers": request_id()})
    };
    let one = |description: &str, text: &str| {
        entry(description, schema("Detail"), json!({"detail": {"value": detail(text)}}))
    };
    let mut errors = json!({
        "400": entry(
            "What was sent is no good: every bad field at once, or what is wrong with it altogether.",
            json!({"anyOf": [schema("Detail"), schema("FieldErrors")]}),
            json!({
                "fields": {"value": {"name": ["This field is required."], "price": ["A valid number is required."]}},
                "body": {"value": detail("JSON parse error - EOF while parsing a value at line 1 column 0")},
            }),
        ),
        "401": entry(
            "Nobody is signed in, or the token is no good.",
            schema("Detail"),
            json!({
                "without": {"value": detail("Authentication credentials were not provided.")},
                "invalid": {"value": {
                    "detail": "Given token not valid for any token type",
                    "code": "token_not_valid",
                    "messages": [
                        {"token_class": "AccessToken", "token_type": "access", "message": "Token is expired"},
                    ],
                }},
            }),
        ),
        "403": one("Signed in, but not allowed.", "You do not have permission to perform this action."),
        "404": one("Not there, or not yours.", "Not found."),
        "408": one("The body did not arrive in time.", "The request body did not arrive in time."),
        "409": one("The present state does not allow it.", "This category still has products."),
        "412": one("It has changed since.", "The resource has changed since it was read."),
        "413": one("The body is larger than is taken.", "The request body is larger than 1048576 bytes."),
        "415": one("Not a media type that is taken.", "Unsupported media type \"text/plain\" in request."),
        "416": one("The file has no such part.", "Range Not Satisfiable."),
        "422": one(
            "The key was used before, for something else.",
            "This Idempotency-Key was used before with another request body.",
        ),
        "426": one("No WebSocket was asked for.", "Upgrade Required."),
        "429": one("Too many requests, or tries.", "Request was throttled. Expected available in 12 seconds."),
        "500": one("A fault of the server, which its log explains.", "Internal server error."),
        "503": one(
            "Over capacity, going down, or without its database: try again after a moment.",
            "The service is over capacity. Try again later.",
        ),
    });
    let header = |name: &str| json!({"$ref": format!("#/components/headers/{name}")});
    for status in ["429", "503"] {
        errors[status]["headers"]["Retry-After"] = header("Retry-After");
    }
    errors["401"]["headers"]["WWW-Authenticate"] = header("WWW-Authenticate");
    errors
}

/// The headers of answers that have a name of their own.
pub(crate) fn headers() -> Value {
    let text = |description: &str| json!({"description": description, "schema": {"type": "string"}});
    json!({
        "X-Request-Id": text("The request's id in the server's log; yours, if you sent a sane one."),
        "Retry-After": text("After how many seconds to try again."),
        "WWW-Authenticate": text("`Bearer realm=\"api\"`"),
    })
}

/// The schemas that several resources share.
pub(crate) fn shared_schemas() -> Vec<(&'static str, Value)> {
    let messages = json!({"type": "array", "minItems": 1, "items": {"type": "string"}});
    vec![
        ("Id", json!({"type": "integer", "format": "int64", "minimum": 1, "maximum": i64::MAX})),
        (
            "Money",
            json!({
                "type": "string",
                "pattern": "^[0-9]{1,16}\\.[0-9]{2}$",
                "description": "A decimal with two places; never a float.",
            }),
        ),
        (
            "Price",
            json!({
                "type": ["string", "number"],
                "pattern": "^[0-9]{1,8}(\\.[0-9]{1,2})?$",
                "minimum": 0,
                "maximum": 99_999_999.99,
                "multipleOf": 0.01,
                "description": "At most two places, as a text or a number.",
            }),
        ),
        ("Time", json!({"type": "string", "format": "date-time", "description": "In UTC."})),
        (
            "Image",
            json!({
                "type": ["string", "null"],
                "format": "uri",
                "description": "An absolute URL. The file under it never changes.",
            }),
        ),
        (
            "NoImage",
            json!({"type": "null", "description": "Null takes the image away; a new one comes by a form."}),
        ),
        (
            "File",
            json!({
                "type": "string",
                "contentMediaType": "application/octet-stream",
                "description": "JPEG, PNG or WebP, at most 5 MiB and 40 megapixels; an empty text takes the image away.",
            }),
        ),
        (
            "Detail",
            json!({
                "type": "object",
                "required": ["detail"],
                "properties": {"detail": {"type": "string"}, "code": {"type": "string"}},
            }),
        ),
        (
            "FieldErrors",
            json!({
                "type": "object",
                "minProperties": 1,
                "description": "Messages by field; what concerns several is under `non_field_errors`.",
                "additionalProperties": {"anyOf": [
                    messages,
                    {"type": "object", "minProperties": 1, "additionalProperties": messages},
                ]},
            }),
        ),
    ]
}
