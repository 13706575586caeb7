//! How values are shown: times, amounts, statuses. What these write is HTML already.

use std::borrow::Borrow;
use std::fmt;

use askama::filters::HtmlSafe;
use souk_store::model::{Money, OrderStatus, Timestamp};

/// A moment, as templates have it: by value or not.
pub(super) fn when(moment: impl Borrow<Timestamp>) -> When {
    When(*moment.borrow())
}

/// An amount of money, for templates.
pub(super) fn amount(money: impl Borrow<Money>) -> Amount {
    Amount(*money.borrow())
}

/// A number, for templates.
pub(super) fn count(number: impl Borrow<i64>) -> Count {
    Count(*number.borrow())
}

/// An order's status, for templates.
pub(super) fn status(status: impl Borrow<OrderStatus>) -> Status {
    Status(*status.borrow())
}

/// A text, or its beginning if it has more characters than that.
pub(super) fn shortened(text: &str, most: usize) -> String {
    if text.chars().count() > most {
        text.chars().take(most).chain(['…']).collect()
    } else {
        text.to_owned()
    }
}

/// A moment to the minute, in UTC; the exact time is in its attribute.
pub(super) struct When(Timestamp);

impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exact = self.0.to_string();
        let (day, time) = exact.split_once('T').unwrap_or((&exact, ""));
        let time = time.get(..5).unwrap_or_default();
        write!(f, "<time datetime=\"{exact}\" title=\"{exact}\">{day} {time}</time>")
    }
}

impl HtmlSafe for When {}

/// An amount of money with its thousands apart.
pub(super) struct Amount(pub(super) Money);

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:02}", Count(self.0.0 / 100), self.0.0 % 100)
    }
}

impl HtmlSafe for Amount {}

/// A number with its thousands apart.
pub(super) struct Count(pub(super) i64);

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.unsigned_abs().to_string();
        if self.0 < 0 {
            f.write_str("−")?;
        }
        for (at, digit) in digits.chars().enumerate() {
            if at > 0 && (digits.len() - at).is_multiple_of(3) {
                f.write_str(",")?;
            }
            write!(f, "{digit}")?;
        }
        Ok(())
    }
}

impl HtmlSafe for Count {}

/// An order's status.
pub(super) struct Status(OrderStatus);

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<span class=\"badge {status}\">{status}</span>", status = self.0)
    }
}

impl HtmlSafe for Status {}

/// Where an uploaded image is.
pub(super) fn image(name: &str) -> String {
    format!("/media/{name}")
}

/// Where its small copy is, for lists.
pub(super) fn thumbnail(name: &str) -> String {
    image(&crate::media::small(name))
}

/// `1 order`, `12 orders`.
pub(super) fn plural(count: usize, one: &str, many: &str) -> String {
    let word = if count == 1 { one } else { many };
    format!("{} {word}", Count(i64::try_from(count).unwrap_or(i64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thousands_stand_apart() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (-1_234_567, "−1,234,567")] {
            assert_eq!(Count(number).to_string(), text);
        }
        assert_eq!(Amount(Money(123_456)).to_string(), "1,234.56");
        assert_eq!(Amount(Money(5)).to_string(), "0.05");
    }
}
