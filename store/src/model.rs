//! What the shop is made of: ids, money, times and the rows that the rest of Souk passes around, with the rules
//! that need no database.
//!
//! Everything here is plain data. A value that exists is valid: `Money` is in range, an `OrderStatus` is one of
//! four, so that nobody behind the edge checks again.

mod order;

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, NaiveDate, SecondsFormat, SubsecRound, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use unicode_normalization::UnicodeNormalization;

pub use self::order::{Order, OrderItem, OrderStatus, StatusChange, Step, WrongStep};

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize, sqlx::Type)]
        #[serde(transparent)]
        #[sqlx(transparent)]
        pub struct $name(pub i64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = NotAnId;
            /// Takes a positive 64-bit integer in decimal digits and nothing else: no sign, no blank.
            fn from_str(text: &str) -> Result<Self, NotAnId> {
                if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
                    return Err(NotAnId);
                }
                text.parse().ok().filter(|id| *id > 0).map(Self).ok_or(NotAnId)
            }
        }
    )*};
}

ids! {
    /// An account.
    UserId;
    /// A category of the catalogue.
    CategoryId;
    /// A product of the catalogue. Never given out twice, even after a delete.
    ProductId;
    /// A user's cart; each user has at most one.
    CartId;
    /// A line of a cart.
    CartItemId;
    /// A placed order.
    OrderId;
    /// A line item of an order.
    OrderItemId;
    /// A row of a product's movements.
    MovementId;
    /// An event's number among the events of its user: 1, 2, 3, … without a gap.
    EventId;
}

/// The text is no positive 64-bit integer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a positive 64-bit integer")]
pub struct NotAnId;

/// An amount of money in whole cents, never a float.
///
/// Prices are 0.00 to 99999999.99; totals may be larger. Written as a decimal string with two places.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, sqlx::Type)]
#[sqlx(transparent)]
pub struct Money(pub i64);

/// Why a text is no price; worded as DRF's `DecimalField(max_digits=10, decimal_places=2)` does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotMoney {
    /// Not a decimal number at all (exponents, infinities and blanks are none either).
    #[error("A valid number is required.")]
    NotANumber,
    /// Less than 0.00.
    #[error("Ensure this value is greater than or equal to 0.")]
    Negative,
    /// More than eight digits before the point.
    #[error("Ensure that there are no more than 8 digits before the decimal point.")]
    TooLarge,
    /// More than two digits after the point.
    #[error("Ensure that there are no more than 2 decimal places.")]
    TooPrecise,
}

impl Money {
    /// What `quantity` pieces cost. Exact for every price and cart line: 100 lines of [`MAX_QUANTITY`] stay far
    /// within 64 bits.
    #[must_use]
    pub fn times(self, quantity: i64) -> Self {
        Self(self.0.saturating_mul(quantity))
    }
}

impl FromStr for Money {
    type Err = NotMoney;

    /// Reads a price: digits with at most two places (`7`, `7.5`, `7.50`), 0.00 to 99999999.99.
    fn from_str(text: &str) -> Result<Self, NotMoney> {
        let (negative, digits) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        let (whole, places) = digits.split_once('.').unwrap_or((digits, ""));
        let all_digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
        if (whole.is_empty() && places.is_empty()) || !all_digits(whole) || !all_digits(places) {
            return Err(NotMoney::NotANumber);
        }
        if places.len() > 2 {
            return Err(NotMoney::TooPrecise);
        }
        let whole = whole.trim_start_matches('0');
        if whole.len() > 8 {
            return Err(NotMoney::TooLarge);
        }
        let mut cents = 0_i64;
        for digit in whole.bytes().chain(format!("{places:0<2}").bytes()) {
            cents = cents * 10 + i64::from(digit - b'0');
        }
        if negative && cents > 0 {
            return Err(NotMoney::Negative);
        }
        Ok(Self(cents))
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:02}", self.0 / 100, self.0 % 100)
    }
}

impl Serialize for Money {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Money {
    /// Reads a price as it is written; a total may be too high for it.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        std::borrow::Cow::<str>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

impl std::iter::Sum for Money {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        Self(amounts.map(|amount| amount.0).sum())
    }
}

/// A moment in UTC, whole microseconds: what both databases keep without loss.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, sqlx::Type)]
#[sqlx(transparent)]
pub struct Timestamp(DateTime<Utc>);

impl Timestamp {
    /// The present moment by the system's clock.
    #[must_use]
    pub fn now() -> Self {
        Self::from(Utc::now())
    }

    /// This moment moved by `seconds`, which may be negative.
    #[must_use]
    pub fn plus_seconds(self, seconds: i64) -> Self {
        Self(self.0 + chrono::TimeDelta::seconds(seconds))
    }

    /// Its day, in UTC.
    #[must_use]
    pub fn day(self) -> NaiveDate {
        self.0.date_naive()
    }

    /// The first moment of its day, in UTC.
    #[must_use]
    pub fn start_of_day(self) -> Self {
        Self::of_day(self.day())
    }

    /// The first moment of a day, in UTC.
    #[must_use]
    pub fn of_day(day: NaiveDate) -> Self {
        Self(day.and_time(chrono::NaiveTime::MIN).and_utc())
    }

    /// The text that sqlx stores for it on SQLite.
    pub(crate) fn as_sqlite(self) -> String {
        self.0.to_rfc3339_opts(SecondsFormat::AutoSi, false)
    }

    /// Whole milliseconds since 1970.
    #[must_use]
    pub fn unix_millis(self) -> i64 {
        self.0.timestamp_millis()
    }

    /// Whole seconds since 1970, as in a JWT's `iat` and `exp`.
    #[must_use]
    pub fn unix_seconds(self) -> i64 {
        self.0.timestamp()
    }
}

impl From<DateTime<Utc>> for Timestamp {
    fn from(time: DateTime<Utc>) -> Self {
        Self(time.trunc_subsecs(6))
    }
}

impl fmt::Display for Timestamp {
    /// RFC 3339 with six places: `2026-11-22T13:00:00.123456Z`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.to_rfc3339_opts(SecondsFormat::Micros, true))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        DateTime::parse_from_rfc3339(&text).map(|time| Self::from(time.to_utc())).map_err(de::Error::custom)
    }
}

/// The form in which texts are compared without regard to case: search, unique emails, usernames and category names.
///
/// Neither engine folds beyond ASCII as Souk builds them, so the folded form is stored beside the text. NFKC first, so
/// that the two ways to write `é` are one.
#[must_use]
pub fn fold(text: &str) -> String {
    text.nfkc().flat_map(char::to_lowercase).nfkc().collect()
}

/// An account, as its owner and admins see it; the password's hash never leaves the store's `accounts`.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
#[expect(missing_docs, reason = "the fields are those of the contract's user")]
pub struct User {
    pub id: UserId,
    pub email: String,
    pub username: String,
    pub first_name: String,
    pub last_name: String,
    pub phone: String,
    pub address: String,
    pub date_of_birth: Option<NaiveDate>,
    pub is_admin: bool,
    pub is_active: bool,
    pub date_joined: Timestamp,
    pub last_login: Option<Timestamp>,
    pub bio: String,
    /// Path under the media root, or none.
    pub avatar: Option<String>,
    /// A JSON object in text, at most 8 KiB.
    pub preferences: String,
    /// Access tokens of an older generation are void.
    pub login_generation: i64,
}

/// A category of the catalogue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, sqlx::FromRow)]
#[expect(missing_docs, reason = "the fields are those of the contract's category")]
pub struct Category {
    pub id: CategoryId,
    pub name: String,
    pub description: String,
    /// Path under the media root, or none.
    pub image: Option<String>,
    pub is_active: bool,
    /// How many products of it the viewer may see.
    pub product_count: i64,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// A product as the database has it. `stock` and `version` grow old with each order: lay the ledger's level over them
/// before showing them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, sqlx::FromRow)]
#[expect(missing_docs, reason = "the fields are those of the contract's product")]
pub struct Product {
    pub id: ProductId,
    pub name: String,
    pub description: String,
    pub price: Money,
    /// Units that can be sold, 0 to 2147483647.
    pub stock: i64,
    /// Rises by one with every change of the row, of its stock too; part of the `ETag`.
    pub version: i64,
    pub category_id: CategoryId,
    pub category_name: String,
    pub sku: String,
    pub featured: bool,
    pub is_active: bool,
    /// Path under the media root, or none.
    pub image: Option<String>,
    pub created_at: Timestamp,
    /// When an admin last changed the product itself; orders do not touch it.
    pub updated_at: Timestamp,
}

/// How many of a product there are, and the version of its row at that moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, sqlx::FromRow)]
pub struct Level {
    /// Units that can be sold.
    pub stock: i64,
    /// `products.version` as of this level; of two levels the one with the higher version is the newer.
    pub version: i64,
}

/// The highest stock level.
pub const MAX_STOCK: i64 = 2_147_483_647;

/// The most units of a cart's line.
pub const MAX_QUANTITY: i64 = 1_000_000;

/// The most lines of a cart.
pub const MAX_CART_LINES: usize = 100;

/// Why a product's level changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, sqlx::Type)]
#[serde(rename_all = "lowercase")]
#[sqlx(type_name = "text", rename_all = "lowercase")]
pub enum MovementKind {
    /// The level with which the product was created.
    Initial,
    /// Units taken by an order.
    Order,
    /// Units put back by a cancelled order.
    Cancel,
    /// An admin moved the level by a number of units.
    Change,
    /// An admin set the level.
    Set,
}

impl MovementKind {
    /// As stored and shown.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Initial => "initial",
            Self::Order => "order",
            Self::Cancel => "cancel",
            Self::Change => "change",
            Self::Set => "set",
        }
    }
}

/// One change of a product's stock. A product's level is the sum of its movements, always.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, sqlx::FromRow)]
pub struct Movement {
    /// Rises with time.
    pub id: MovementId,
    /// Why the level changed.
    pub kind: MovementKind,
    /// Units added (positive) or taken (negative).
    pub change: i64,
    /// The level after it.
    pub level: i64,
    /// The order that took or gave back the units.
    #[serde(rename = "order")]
    pub order_id: Option<OrderId>,
    /// When it was committed.
    pub created_at: Timestamp,
}

/// One line of a cart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct CartLine {
    /// The line's own id.
    pub id: CartItemId,
    /// What is wanted.
    pub product_id: ProductId,
    /// How many, 1 or more.
    pub quantity: i64,
}

/// A user's cart. Its `version` rises with each change and guards it against a second writer on another node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cart {
    /// The cart's id.
    pub id: CartId,
    /// Rises by one with each change.
    pub version: i64,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// In the order in which they were added.
    pub lines: Vec<CartLine>,
}

/// What an event tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, sqlx::Type)]
#[serde(rename_all = "snake_case")]
#[sqlx(type_name = "text", rename_all = "snake_case")]
pub enum EventKind {
    /// An order was placed.
    OrderCreated,
    /// An order moved on.
    OrderStatusUpdate,
}

impl EventKind {
    /// As stored and shown.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OrderCreated => "order_created",
            Self::OrderStatusUpdate => "order_status_update",
        }
    }
}

/// A notification, stored in the transaction of the change that it tells of.
#[derive(Clone, Debug, PartialEq, Eq, sqlx::FromRow)]
pub struct Event {
    /// Whose order it is.
    pub user_id: UserId,
    /// 1, 2, 3, … for this user, without a gap.
    pub id: EventId,
    /// What happened.
    pub kind: EventKind,
    /// The order that it tells of.
    pub order_id: OrderId,
    /// The order's status after it.
    pub status: OrderStatus,
    /// The status before it; none for a new order.
    pub previous_status: Option<OrderStatus>,
    /// The order's total.
    pub total: Money,
    /// When it was committed.
    pub created_at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_are_read_to_the_cent_and_written_with_two_places() {
        for (text, cents) in
            [("0", 0), ("7", 700), ("7.5", 750), ("19.99", 1999), ("099999999.99", 9_999_999_999)]
        {
            assert_eq!(text.parse(), Ok(Money(cents)), "{text}");
        }
        assert_eq!(Money(1999).to_string(), "19.99");
        assert_eq!(Money(5).to_string(), "0.05");
        assert_eq!("-0.00".parse(), Ok(Money(0)));
    }

    #[test]
    fn what_is_no_price_says_why() {
        for (text, why) in [
            ("", NotMoney::NotANumber),
            (".", NotMoney::NotANumber),
            ("1e3", NotMoney::NotANumber),
            ("NaN", NotMoney::NotANumber),
            ("1,5", NotMoney::NotANumber),
            ("٣", NotMoney::NotANumber),
            ("-1", NotMoney::Negative),
            ("1.999", NotMoney::TooPrecise),
            ("100000000", NotMoney::TooLarge),
        ] {
            assert_eq!(text.parse::<Money>(), Err(why), "{text}");
        }
    }

    #[test]
    fn ids_are_positive_decimal_integers() {
        assert_eq!("7".parse(), Ok(OrderId(7)));
        for text in ["", "0", "-1", "+1", " 1", "1.0", "9223372036854775808", "x"] {
            assert_eq!(text.parse::<OrderId>(), Err(NotAnId), "{text}");
        }
    }

    #[test]
    fn folding_is_blind_to_case_and_to_the_way_an_accent_is_written() {
        assert_eq!(fold("ÉCLAIR"), fold("e\u{301}clair"));
        assert_eq!(fold("ΣΊΓΜΑ"), fold("σίγμα"));
    }

    #[test]
    fn times_show_six_places() {
        let time: DateTime<Utc> = "2026-11-22T13:00:00.123456789Z".parse().unwrap();
        assert_eq!(Timestamp::from(time).to_string(), "2026-11-22T13:00:00.123456Z");
    }
}
