//! What the document says of accounts.

use serde_json::{Map, Value, json};

use super::{MAX_ADDRESS, MAX_BIO, MAX_EMAIL, MAX_NAME, MAX_PHONE, MAX_USERNAME};
use crate::openapi::{Access, Operation, body, flag, name, object, schema, text};
use crate::passwords::{MAX_LENGTH, MIN_LENGTH};

const TAG: &str = "Accounts";
const USERS: &str = "Users";

/// The operations of `routes`, in its order.
pub(crate) fn operations() -> Vec<Operation> {
    let tokens = json!({"access": "eyJ0eXAiOiJKV1QiLCJhbGciOi…", "refresh": "eyJ0eXAiOiJKV1QiLCJhbGciOi…"});
    let login = json!({"email": "ada@example.com", "password": "Tangerine-Kite-42"});
    let profile = json!({"first_name": "Ada", "profile": {"bio": "Counts."}});
    let user = |operation: Operation| operation.tag(TAG).answers(200, "The user", schema("User"), example());
    let token = |operation: Operation, bad: &str| {
        operation.tag(TAG).error_when(401, bad, schema("Detail"), json!({"detail": bad}))
    };
    let mut registered = example();
    registered["access"] = tokens["access"].clone();
    registered["refresh"] = tokens["refresh"].clone();
    let mut seen_by_admin = example();
    seen_by_admin["is_active"] = true.into();
    seen_by_admin["last_login"] = "2026-11-22T13:00:00.123456Z".into();
    let one_user = "/auth/api/users/{id}/";
    vec![
        token(
            Operation::post("/auth/api/token/", Access::Anybody, "Sign in")
                .says("Ten failed logins for one account and address within 15 minutes are a 429.")
                .takes("Login", true, &login)
                .answers(200, "Tokens", schema("TokenPair"), tokens.clone()),
            "No active account found with the given credentials",
        ),
        token(
            Operation::post("/auth/api/token/refresh/", Access::Anybody, "Get new tokens")
                .says("The refresh token is used up by it; presented again, it ends the whole login.")
                .takes("Refresh", true, &json!({"refresh": tokens["refresh"]}))
                .answers(200, "Tokens", schema("TokenPair"), tokens.clone()),
            "Token is invalid",
        ),
        token(
            Operation::post("/auth/api/token/verify/", Access::Anybody, "Ask whether a token is good")
                .takes("Token", true, &json!({"token": tokens["access"]}))
                .answers(200, "It is", json!({"type": "object", "maxProperties": 0}), json!({})),
            "Token is invalid",
        ),
        user(Operation::get("/auth/api/profile/", Access::User, "Show your account")),
        user(
            Operation::put("/auth/api/profile/", Access::User, "Replace your account's data")
                .says("What is left out stays as it is.")
                .takes_file("ProfileChange", "ProfileForm", &profile),
        ),
        user(Operation::patch("/auth/api/profile/", Access::User, "Change your account's data").takes_file(
            "ProfileChange",
            "ProfileForm",
            &profile,
        )),
        Operation::post("/auth/api/register/", Access::Anybody, "Register")
            .tag(TAG)
            .takes(
                "Registration",
                true,
                &json!({"email": "ada@example.com", "username": "ada", "password": "Tangerine-Kite-42",
                    "password_confirm": "Tangerine-Kite-42"}),
            )
            .answers(201, "The user, signed in", schema("Registered"), registered),
        Operation::post("/auth/api/logout/", Access::User, "Sign out")
            .tag(TAG)
            .takes("Refresh", true, &json!({"refresh": tokens["refresh"]}))
            .answers_nothing(204, "That login's refresh token is dead"),
        Operation::post("/auth/api/password/", Access::User, "Change your password")
            .tag(TAG)
            .says("Ends every login of yours.")
            .takes(
                "PasswordChange",
                true,
                &json!({"current_password": "Tangerine-Kite-42", "password": "Crimson-Anchor-7",
                    "password_confirm": "Crimson-Anchor-7"}),
            )
            .answers_nothing(204, "It is changed"),
        Operation::post("/auth/api/ws-ticket/", Access::User, "Get a ticket for a WebSocket")
            .tag(TAG)
            .answers(201, "A ticket", schema("Ticket"), json!({"ticket": "6bYx…", "expires_in": 60})),
        Operation::get("/auth/api/users/", Access::Admin, "List users")
            .tag(USERS)
            .query("search", "Words that occur in the email, the username or the names.", text(255))
            .query("is_active", "Only who is active, or is not.", flag())
            .query("is_admin", "Only who is an admin, or is not.", flag())
            .page_of("UserOfAdmin", &seen_by_admin),
        Operation::get(one_user, Access::Admin, "Show a user").tag(USERS).answers(
            200,
            "The user",
            schema("UserOfAdmin"),
            seen_by_admin.clone(),
        ),
        Operation::patch(one_user, Access::Admin, "Activate or deactivate a user, or make an admin")
            .tag(USERS)
            .takes("UserSwitch", true, &json!({"is_active": false}))
            .answers(200, "The user", schema("UserOfAdmin"), seen_by_admin)
            .error_when(
                409,
                "No active admin would be left.",
                schema("Detail"),
                json!({"detail": "The last active admin must stay active and an admin."}),
            ),
    ]
}

fn example() -> Value {
    json!({
        "id": 2, "email": "ada@example.com", "username": "ada", "first_name": "Ada", "last_name": "", "phone": "",
        "address": "", "date_of_birth": null, "is_admin": false, "date_joined": "2026-11-22T13:00:00.123456Z",
        "profile": {"bio": "Counts.", "avatar": null, "preferences": {"theme": "dark"}},
    })
}

fn user() -> Value {
    let shown = json!({"type": "string"});
    json!({
        "id": schema("Id"),
        "email": shown,
        "username": shown,
        "first_name": shown,
        "last_name": shown,
        "phone": shown,
        "address": shown,
        "date_of_birth": {"type": ["string", "null"], "format": "date"},
        "is_admin": flag(),
        "date_joined": schema("Time"),
        "profile": object(json!({"bio": shown, "avatar": schema("Image"), "preferences": {"type": "object"}})),
    })
}

/// What an owner may write, without what is within `profile`.
fn writable() -> Value {
    json!({
        "email": {"type": "string", "format": "email", "maxLength": MAX_EMAIL},
        "username": {"type": "string", "minLength": 1, "maxLength": MAX_USERNAME, "pattern": "^[A-Za-z0-9@.+_-]+$"},
        "first_name": text(MAX_NAME),
        "last_name": text(MAX_NAME),
        "phone": text(MAX_PHONE),
        "address": text(MAX_ADDRESS),
        "date_of_birth": {"type": ["string", "null"], "format": "date"},
    })
}

fn with(mut properties: Value, more: Value) -> Value {
    if let (Some(properties), Value::Object(more)) = (properties.as_object_mut(), more) {
        properties.extend(more);
    }
    properties
}

/// The schemas of this file.
pub(crate) fn schemas() -> Vec<(&'static str, Value)> {
    let password =
        json!({"type": "string", "format": "password", "minLength": MIN_LENGTH, "maxLength": MAX_LENGTH});
    let any_password = json!({"type": "string", "format": "password", "minLength": 1});
    let token = json!({"type": "string", "minLength": 1});
    let tokens = json!({"access": token, "refresh": token});
    let last_login = json!({"anyOf": [schema("Time"), {"type": "null"}]});
    let switches = json!({"is_active": flag(), "last_login": last_login});
    let passwords = json!({"password": password, "password_confirm": password});
    let within =
        json!({"bio": text(MAX_BIO), "avatar": schema("NoImage"), "preferences": {"type": "object"}});
    let in_a_form = [
        ("profile.bio", text(MAX_BIO)),
        ("profile.preferences", json!({"type": "string", "contentMediaType": "application/json"})),
        ("profile.avatar", schema("File")),
        ("avatar", schema("File")),
    ];
    let in_a_form: Map<_, _> =
        in_a_form.map(|(name, schema)| (name.to_owned(), schema)).into_iter().collect();
    vec![
        ("User", object(user())),
        ("UserOfAdmin", object(with(user(), switches))),
        ("Registered", object(with(user(), tokens.clone()))),
        ("TokenPair", object(tokens)),
        (
            "Registration",
            body(&["email", "username", "password", "password_confirm"], with(writable(), passwords.clone())),
        ),
        ("Login", body(&["email", "password"], json!({"email": name(MAX_EMAIL), "password": any_password}))),
        ("Refresh", body(&["refresh"], json!({"refresh": token}))),
        ("Token", body(&["token"], json!({"token": token}))),
        ("ProfileChange", body(&[], with(writable(), json!({"profile": body(&[], within)})))),
        ("ProfileForm", body(&[], with(writable(), Value::Object(in_a_form)))),
        (
            "PasswordChange",
            body(
                &["current_password", "password", "password_confirm"],
                with(passwords, json!({"current_password": any_password})),
            ),
        ),
        (
            "Ticket",
            object(json!({"ticket": token, "expires_in": {"type": "integer", "description": "Seconds."}})),
        ),
        ("UserSwitch", body(&[], json!({"is_active": flag(), "is_admin": flag()}))),
    ]
}
