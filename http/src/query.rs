//! Reads query parameters as filters and gathers every bad one, in the spirit of [`crate::fields`].
//!
//! Of repeated parameters the last counts, an empty value is no filter, and what nobody asks for is ignored. The wording
//! is django-filter's; stricter than it, an unknown `ordering` term and a boolean that is neither `true` nor `false` are
//! refused.

use std::str::FromStr;

use salvo::Request;
use souk_store::model::Money;

use crate::error::{ApiError, FieldErrors};
use crate::fields::NULL_CHARACTER;

/// The longest text that a filter takes.
const MAX_TEXT: usize = 255;

/// The query parameters of a request, and what is wrong with them so far.
#[derive(Debug)]
pub(crate) struct Query<'r> {
    req: &'r Request,
    errors: FieldErrors,
}

impl<'r> Query<'r> {
    /// Those of this request.
    pub(crate) fn of(req: &'r Request) -> Self {
        Self { req, errors: FieldErrors::default() }
    }

    /// The value of a parameter, trimmed; none if it is empty.
    fn value(&self, name: &str) -> Option<&'r str> {
        let values = self.req.queries().get_vec(name)?;
        values.last().map(|value| value.trim()).filter(|value| !value.is_empty())
    }

    /// Text of up to 255 characters.
    pub(crate) fn text(&mut self, name: &str) -> Option<&'r str> {
        let text = self.value(name)?;
        let length = text.chars().count();
        if length > MAX_TEXT {
            let message = format!("Ensure this value has at most {MAX_TEXT} characters (it has {length}).");
            self.errors.add(name, message);
        } else if text.contains('\0') {
            self.errors.add(name, NULL_CHARACTER);
        } else {
            return Some(text);
        }
        None
    }

    /// `true` or `false`.
    pub(crate) fn flag(&mut self, name: &str) -> Option<bool> {
        match self.value(name)? {
            "true" => Some(true),
            "false" => Some(false),
            _ => {
                self.errors.add(name, "Must be a valid boolean.");
                None
            }
        }
    }

    /// The id of something. Whether it exists is the handler's to find out: [`Query::no_such_choice`].
    pub(crate) fn id<T: FromStr>(&mut self, name: &str) -> Option<T> {
        let id = self.value(name)?.parse().ok();
        if id.is_none() {
            self.no_such_choice(name);
        }
        id
    }

    /// Adds the message about an id of nothing.
    pub(crate) fn no_such_choice(&mut self, name: &str) {
        let message = "Select a valid choice. That choice is not one of the available choices.";
        self.errors.add(name, message);
    }

    /// One of the texts that `T` parses.
    pub(crate) fn choice<T: FromStr>(&mut self, name: &str) -> Option<T> {
        let value = self.value(name)?;
        let choice = value.parse().ok();
        if choice.is_none() {
            let message = format!("Select a valid choice. {value} is not one of the available choices.");
            self.errors.add(name, message);
        }
        choice
    }

    /// The least amount of money that is not below this number; any decimal number will do.
    pub(crate) fn at_least(&mut self, name: &str) -> Option<Money> {
        self.amount(name, Rounding::Up)
    }

    /// The greatest amount of money that is not above this number.
    pub(crate) fn at_most(&mut self, name: &str) -> Option<Money> {
        self.amount(name, Rounding::Down)
    }

    fn amount(&mut self, name: &str, rounding: Rounding) -> Option<Money> {
        let amount = cents(self.value(name)?, rounding).map(Money);
        if amount.is_none() {
            self.errors.add(name, "Enter a number.");
        }
        amount
    }

    /// Comma-separated terms, each one of `choices` with an optional `-` before it: the choice's value, and whether it
    /// runs backwards. No term, an empty list.
    pub(crate) fn ordering<T: Copy>(&mut self, choices: &[(&str, T)]) -> Vec<(T, bool)> {
        let mut order = Vec::new();
        let terms = self.value("ordering").unwrap_or_default().split(',').map(str::trim);
        for term in terms.filter(|term| !term.is_empty()) {
            let (name, backwards) = term.strip_prefix('-').map_or((term, false), |name| (name, true));
            if let Some((_, choice)) = choices.iter().find(|(choice, _)| *choice == name) {
                order.push((*choice, backwards));
            } else {
                let names: Vec<_> = choices.iter().map(|(name, _)| format!("{name}, -{name}")).collect();
                let message = format!(
                    "Select a valid choice. {term} is not one of the available choices: {}.",
                    names.join(", ")
                );
                self.errors.add("ordering", message);
                return Vec::new();
            }
        }
        order
    }

    /// The error to answer with if any parameter was refused. Nothing that was read may be used before.
    pub(crate) fn finish(self) -> Result<(), ApiError> {
        self.errors.into_result()
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Rounding {
    Up,
    Down,
}

/// Reads a decimal number of any length as cents; beyond what a sum of money can be it stays at the end of the range.
fn cents(text: &str, rounding: Rounding) -> Option<i64> {
    const LIMIT: i64 = 1_000_000_000_000_000;
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (whole, places) = digits.split_once('.').unwrap_or((digits, ""));
    let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if (whole.is_empty() && places.is_empty()) || !all_digits(whole) || !all_digits(places) {
        return None;
    }
    let (kept, rest) = places.split_at(places.len().min(2));
    let mut cents = 0_i64;
    for digit in whole.bytes().chain(format!("{kept:0<2}").bytes()) {
        cents = (cents * 10 + i64::from(digit - b'0')).min(LIMIT);
    }
    let is_cut = rest.bytes().any(|digit| digit != b'0');
    // Away from zero: up for a positive number, down for a negative one.
    if is_cut && (rounding == Rounding::Up) != negative {
        cents += 1;
    }
    Some(if negative { -cents } else { cents })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(query: &str) -> Request {
        let mut req = Request::default();
        req.set_uri(format!("http://localhost/?{query}").parse().unwrap());
        req
    }

    #[test]
    fn bounds_are_rounded_into_the_range_they_bound() {
        for (text, up, down) in [
            ("19.99", 1999, 1999),
            ("19.991", 2000, 1999),
            ("-0.001", 0, -1),
            (".5", 50, 50),
            ("7.", 700, 700),
            ("9999999999999999999999", 1_000_000_000_000_000, 1_000_000_000_000_000),
        ] {
            assert_eq!(cents(text, Rounding::Up), Some(up), "{text}");
            assert_eq!(cents(text, Rounding::Down), Some(down), "{text}");
        }
        for text in ["", ".", "-", "1e3", "abc", "1,5", "٣", "--1"] {
            assert_eq!(cents(text, Rounding::Up), None, "{text}");
        }
    }

    #[test]
    fn the_last_of_repeated_parameters_counts_and_an_empty_one_is_no_filter() {
        let req = request("a=1&a=2&b=&search=%20two%20words+&flag=true");
        let mut query = Query::of(&req);
        assert_eq!(query.choice::<i64>("a"), Some(2));
        assert_eq!(query.choice::<i64>("b"), None);
        assert_eq!(query.choice::<i64>("c"), None);
        assert_eq!(query.text("search"), Some("two words"));
        assert_eq!(query.flag("flag"), Some(true));
        query.finish().unwrap();
    }

    #[test]
    fn every_bad_parameter_is_told_at_once() {
        let req = request("n=x&flag=True&id=0&ordering=price,-colour&text=a%00b");
        let mut query = Query::of(&req);
        query.at_least("n");
        query.flag("flag");
        query.id::<souk_store::model::CategoryId>("id");
        assert!(query.ordering(&[("price", 1), ("name", 2)]).is_empty());
        query.text("text");
        let errors = serde_json::to_value(&query.errors).unwrap();
        let expected = serde_json::json!({
            "n": ["Enter a number."],
            "flag": ["Must be a valid boolean."],
            "id": ["Select a valid choice. That choice is not one of the available choices."],
            "ordering": ["Select a valid choice. -colour is not one of the available choices: price, -price, name, -name."],
            "text": ["Null characters are not allowed."],
        });
        assert_eq!(errors, expected);
        assert!(query.finish().is_err());
    }

    #[test]
    fn ordering_terms_come_in_their_order() {
        let req = request("ordering=-name,%20price,");
        let mut query = Query::of(&req);
        assert_eq!(query.ordering(&[("price", 'p'), ("name", 'n')]), [('n', true), ('p', false)]);
    }
}
