//! Bodies, good and bad, and what they are answered.

use serde_json::json;
use souk_store::model::{CategoryId, Money, OrderStatus};

use super::*;

/// Reads a body by `read` and gives the answer to it: `null` if it was good.
fn errors(body: &str, read: impl FnOnce(&mut Fields)) -> serde_json::Value {
    let mut fields = Fields::from_json(body.as_bytes()).unwrap();
    read(&mut fields);
    if fields.errors.is_empty() { json!(null) } else { serde_json::to_value(&fields.errors).unwrap() }
}

fn refusal(body: &[u8]) -> serde_json::Value {
    let mut res = salvo::Response::new();
    Fields::from_json(body).unwrap_err().render(&salvo::Request::default(), &mut res);
    assert_eq!(res.status_code, Some(salvo::http::StatusCode::BAD_REQUEST));
    let salvo::http::ResBody::Once(bytes) = res.take_body() else { panic!("no body") };
    serde_json::from_slice(&bytes).unwrap()
}

#[test]
fn every_bad_field_is_told_at_once() {
    let body = r#"{"blank": " ", "null": null, "long": "abcd", "type": [], "number": "3.5", "price": "1.999",
        "date": "22.11.2026", "flag": "maybe", "status": "lost", "category": "x", "nul": "a\u0000b"}"#;
    let found = errors(body, |fields| {
        fields.text("missing").required();
        fields.text("blank").required();
        fields.text("null").optional();
        fields.text("long").max(3).required();
        fields.text("type").required();
        fields.integer("number").required();
        fields.money("price").required();
        fields.date("date").nullable();
        fields.boolean("flag").or(true);
        fields.choice::<OrderStatus>("status").required_if(true);
        fields.id::<CategoryId>("category").required_if(true);
        fields.text("nul").required();
        fields.text("left_out").optional();
    });
    let expected = json!({
        "missing": ["This field is required."],
        "blank": ["This field may not be blank."],
        "null": ["This field may not be null."],
        "long": ["Ensure this field has no more than 3 characters."],
        "type": ["Not a valid string."],
        "number": ["A valid integer is required."],
        "price": ["Ensure that there are no more than 2 decimal places."],
        "date": ["Date has wrong format. Use one of these formats instead: YYYY-MM-DD."],
        "flag": ["Must be a valid boolean."],
        "status": ["\"lost\" is not a valid choice."],
        "category": ["Incorrect type. Expected pk value, received str."],
        "nul": ["Null characters are not allowed."],
    });
    assert_eq!(found, expected);
}

#[test]
fn good_values_are_read_as_they_were_meant() {
    let body = r#"{"name": "  A \u00e9\ud83d\ude00 ", "code": 12.50, "n": "3", "m": 3.0, "price": 19.99, "text": "7.5",
        "date": "2024-02-29", "on": "true", "off": 0, "category": 7, "none": null, "name2": "a", "name2": "b"}"#;
    let mut fields = Fields::from_json(body.as_bytes()).unwrap();
    assert_eq!(fields.text("name").max(4).required(), "A é😀");
    assert_eq!(fields.text("code").required(), "12.50");
    assert_eq!((fields.integer("n").required(), fields.integer("m").required()), (3, 3));
    assert_eq!(fields.money("price").required(), Money(1999));
    assert_eq!(fields.money("text").required(), Money(750));
    assert_eq!(fields.date("date").required().to_string(), "2024-02-29");
    assert_eq!((fields.boolean("on").required(), fields.boolean("off").required()), (true, false));
    assert_eq!(fields.text("name2").required(), "b");
    assert_eq!(fields.date("none").nullable(), Some(None));
    assert_eq!(fields.date("left_out").nullable(), None);
    let category = fields.id::<CategoryId>("category").required_if(true);
    assert_eq!(fields.finish_with(category).unwrap(), CategoryId(7));
}

#[test]
fn numbers_keep_to_their_bounds_however_long_they_are() {
    let huge = "9".repeat(200);
    for (text, message) in [
        ("0", "Ensure this value is greater than or equal to 1."),
        ("-99999999999999999999999", "Ensure this value is greater than or equal to 1."),
        ("2147483648", "Ensure this value is less than or equal to 2147483647."),
        (huge.as_str(), "Ensure this value is less than or equal to 2147483647."),
        ("true", "A valid integer is required."),
        ("1e4", "A valid integer is required."),
        ("[1]", "A valid integer is required."),
        ("\"\"", "A valid integer is required."),
        ("\"0x10\"", "A valid integer is required."),
    ] {
        let found = errors(&format!("{{\"n\": {text}}}"), |fields| {
            fields.integer("n").min(1).max(2_147_483_647).required();
        });
        assert_eq!(found, json!({"n": [message]}), "{text}");
    }
}

#[test]
fn a_price_never_passes_through_a_float() {
    // 0.1 + 0.2 and its like: more digits than a double holds are still seen.
    let found = errors(r#"{"price": 19.990000000000000001}"#, |fields| {
        fields.money("price").required();
    });
    assert_eq!(found, json!({"price": ["Ensure that there are no more than 2 decimal places."]}));
    for text in ["true", "{}", "\"abc\"", "\"NaN\"", "\"Infinity\""] {
        let found = errors(&format!("{{\"price\": {text}}}"), |fields| {
            fields.money("price").required();
        });
        assert_eq!(found, json!({"price": ["A valid number is required."]}), "{text}");
    }
}

#[test]
fn an_object_within_reports_under_its_name() {
    let read = |fields: &mut Fields| {
        fields.nested("profile", |profile| {
            profile.text("bio").blank().max(3).optional();
            profile.object("preferences", 20).optional();
        });
    };
    let body = r#"{"profile": {"bio": "long", "preferences": [1]}}"#;
    let expected = json!({"profile": {
        "bio": ["Ensure this field has no more than 3 characters."],
        "preferences": ["Expected a dictionary of items but got type \"list\"."],
    }});
    assert_eq!(errors(body, read), expected);
    assert_eq!(errors(r#"{"profile": null}"#, read), json!({"profile": ["This field may not be null."]}));
    let expected = "Invalid data. Expected a dictionary, but got str.";
    assert_eq!(errors(r#"{"profile": "x"}"#, read), json!({"profile": {"non_field_errors": [expected]}}));
    assert_eq!(errors(r#"{"profile": {"bio": ""}}"#, read), json!(null));
    let large = r#"{"profile": {"preferences": {"theme": "as dark as can be"}}}"#;
    let expected = json!({"profile": {"preferences": ["Ensure this field has no more than 20 bytes."]}});
    assert_eq!(errors(large, read), expected);
    let nul = r#"{"profile": {"preferences": {"a": "\u0000"}}}"#;
    assert_eq!(errors(nul, read), json!({"profile": {"preferences": [NULL_CHARACTER]}}));
}

#[test]
fn a_body_that_is_no_object_says_so() {
    for (body, found) in [
        ("[]", "list"),
        ("\"x\"", "str"),
        ("1", "int"),
        ("1.5", "float"),
        ("null", "NoneType"),
        ("true", "bool"),
    ] {
        let message = format!("Invalid data. Expected a dictionary, but got {found}.");
        assert_eq!(refusal(body.as_bytes()), json!({"non_field_errors": [message]}));
    }
}

#[test]
fn what_is_no_json_is_a_parse_error() {
    let deep = format!("{{\"a\": {}{}}}", "[".repeat(100_000), "]".repeat(100_000));
    let bodies: [&[u8]; 9] = [
        b"{\"a\": \"\\ud800\"}",
        b"{\"\\ud800\": 1}",
        b"{",
        b"{\"a\": NaN}",
        b"{'a': 1}",
        b"{} x",
        b"\xff",
        b"{\"a\": \"\n\"}",
        deep.as_bytes(),
    ];
    for body in bodies {
        let answer = refusal(body);
        let detail = answer["detail"].as_str().unwrap();
        assert!(detail.starts_with("JSON parse error - "), "{detail}");
    }
    // Brackets in text are no nesting.
    let text = format!("{{\"a\": \"\\\"{}\"}}", "[".repeat(1000));
    assert_eq!(errors(&text, |fields| drop(fields.text("a").required())), json!(null));
}

/// The fields of a form that holds these texts.
fn form(texts: &[(&str, &str)]) -> Fields {
    Fields::from_form(texts.iter().map(|(name, text)| ((*name).to_owned(), Sent::Text((*text).to_owned()))))
}

#[test]
fn a_form_is_read_by_the_same_rules() {
    let mut fields = form(&[
        ("name", "  Lamp "),
        ("n", "3"),
        ("price", "19.99"),
        ("on", "on"),
        ("category", "7"),
        ("profile.bio", "x"),
        ("profile.preferences", r#" {"theme": "dark"} "#),
    ]);
    assert_eq!(fields.text("name").required(), "Lamp");
    assert_eq!((fields.integer("n").required(), fields.money("price").required()), (3, Money(1999)));
    assert!(fields.boolean("on").required());
    assert_eq!(fields.id::<CategoryId>("category").required_if(true), Some(CategoryId(7)));
    let within = fields.nested("profile", |profile| {
        (profile.text("bio").optional(), profile.object("preferences", 100).optional())
    });
    assert_eq!(within, Some((Some("x".to_owned()), Some(r#"{"theme":"dark"}"#.to_owned()))));
    fields.finish().unwrap();
}

#[test]
fn an_empty_text_of_a_form_is_what_nobody_filled_in() {
    let mut fields =
        form(&[("sku", ""), ("n", " "), ("bio", ""), ("born", ""), ("image", ""), ("preferences", "")]);
    assert_eq!((fields.text("sku").optional(), fields.integer("n").optional()), (None, None));
    assert_eq!(fields.text("bio").blank().optional().as_deref(), Some(""));
    assert_eq!(
        (fields.date("born").nullable(), fields.object("preferences", 9).optional()),
        (Some(None), None)
    );
    assert!(matches!(fields.image("image").nullable(), Some(None)));
    assert_eq!(fields.nested("profile", |_| ()), None);
    fields.finish().unwrap();
    // But what must be there must be good, in a PATCH as well.
    for required in [true, false] {
        let mut fields = form(&[("name", ""), ("price", ""), ("profile.preferences", "{")]);
        fields.text("name").required_if(required);
        fields.money("price").required_if(required);
        fields.nested("profile", |profile| profile.object("preferences", 9).optional());
        let expected = json!({
            "name": ["This field may not be blank."],
            "price": ["A valid number is required."],
            "profile": {"preferences": ["Value must be valid JSON."]},
        });
        assert_eq!(serde_json::to_value(&fields.errors).unwrap(), expected);
    }
}

#[test]
fn a_name_with_a_dot_is_no_field_within_in_json() {
    let mut fields = Fields::from_json(br#"{"profile.bio": "x"}"#).unwrap();
    assert_eq!(fields.nested("profile", |_| ()), None);
}
