//! What the sample shop sells and to whom: product `number` and user `number`, the same whatever is asked for besides.
//!
//! Pure functions over `words`, driven by a small generator of their own that is seeded by the number; the library's
//! generators may change their output from version to version, and this one may not.

use souk_store::model::{Money, Timestamp};
use souk_store::sample::{SampleCategory, SampleProduct, SampleUser};

use super::words::{CLOSINGS, DEPARTMENTS, Department, FIRST_NAMES, LAST_NAMES, MAKERS, STREETS, TOWNS};

/// The sample shop opened on 1 January 2025, in seconds since 1970, and got its goods in the 600 days after.
const OPENING: i64 = 1_735_689_600;
const DAYS_OF_GROWTH: u64 = 600;

/// splitmix64: one multiplication chain, every seed good.
struct Dice(u64);

impl Dice {
    fn new(purpose: u64, number: u64) -> Self {
        let mut dice = Self(purpose.wrapping_mul(0xa076_1d64_78bd_642f) ^ number);
        // Neighbouring numbers begin far apart.
        dice.0 = dice.next();
        dice
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// 0 to `sides - 1`.
    fn below(&mut self, sides: u64) -> u64 {
        self.next() % sides
    }

    fn between(&mut self, first: u64, last: u64) -> u64 {
        first + self.below(last - first + 1)
    }

    /// One of the items of a `|`-separated list.
    fn word<'w>(&mut self, list: &'w str) -> &'w str {
        let count = list.split('|').count() as u64;
        let chosen = usize::try_from(self.below(count)).unwrap_or_default();
        list.split('|').nth(chosen).unwrap_or_default()
    }

    fn moment(&mut self) -> Timestamp {
        let seconds = i64::try_from(self.below(DAYS_OF_GROWTH * 86_400)).unwrap_or_default();
        at(OPENING + seconds)
    }
}

fn at(unix_seconds: i64) -> Timestamp {
    chrono::DateTime::from_timestamp(unix_seconds, 0).unwrap_or_default().into()
}

/// All categories of the sample shop.
pub(super) fn categories() -> Vec<SampleCategory> {
    DEPARTMENTS
        .iter()
        .map(|department| SampleCategory {
            name: department.category.to_owned(),
            description: department.about.to_owned(),
            created_at: at(OPENING),
        })
        .collect()
}

/// Product `number`, from 1.
pub(super) fn product(number: u64) -> SampleProduct {
    let mut dice = Dice::new(1, number);
    let department = &DEPARTMENTS[usize::try_from(dice.below(DEPARTMENTS.len() as u64)).unwrap_or_default()];
    let maker = dice.word(MAKERS);
    let (quality, thing) = (dice.word(department.qualities), dice.word(department.things));
    let name = format!("{maker} {}, {}", titled(&format!("{quality} {thing}")), dice.word(department.sizes));
    SampleProduct {
        name,
        description: description(&mut dice, department, maker, quality, thing),
        price: price(&mut dice, department.price),
        stock: stock(&mut dice),
        category: department.category.to_owned(),
        sku: format!("{}-{number:06}", department.code),
        featured: dice.below(50) == 0,
        is_active: dice.below(100) != 0,
        created_at: dice.moment(),
    }
}

/// Two to four sentences.
fn description(dice: &mut Dice, department: &Department, maker: &str, quality: &str, thing: &str) -> String {
    let merit = dice.word(department.merits);
    let mut text = match dice.below(3) {
        0 => format!("{} {quality} {thing} that {merit}.", article(quality)),
        1 => format!("This {quality} {thing} {merit}."),
        _ => format!("The {quality} {thing} by {maker} {merit}."),
    };
    let first = dice.word(department.details);
    text = format!("{text} {first}");
    if dice.below(3) > 0 {
        let second = dice.word(department.details);
        if second != first {
            text = format!("{text} {second}");
        }
    }
    if dice.below(2) == 0 {
        let closing = dice.word(CLOSINGS).replace("{maker}", maker).replace("{town}", dice.word(TOWNS));
        text = format!("{text} {closing}");
    }
    text
}

/// More cheap things than dear ones, and none that costs 41.37.
fn price(dice: &mut Dice, (lowest, highest): (u64, u64)) -> Money {
    let span = highest - lowest;
    let whole = lowest + dice.between(0, span).min(dice.between(0, span));
    let places = if whole >= 200 {
        0
    } else {
        [99, 99, 95, 90, 50, 0][usize::try_from(dice.below(6)).unwrap_or_default()]
    };
    Money(i64::try_from(whole * 100 + places).unwrap_or_default())
}

/// Some sold out, some nearly, most well stocked, a few by the pallet.
fn stock(dice: &mut Dice) -> i64 {
    let level = match dice.below(100) {
        0..6 => 0,
        6..16 => dice.between(1, 5),
        16..82 => dice.between(6, 120),
        _ => dice.between(120, 900),
    };
    i64::try_from(level).unwrap_or_default()
}

/// `A` or `An`, by the sound that follows.
fn article(next: &str) -> &'static str {
    let is_vowel = next.starts_with(['a', 'e', 'i', 'o', 'u', 'A', 'E', 'I', 'O']);
    if is_vowel { "An" } else { "A" }
}

/// Capitals where a title has them; what has one already keeps it.
fn titled(phrase: &str) -> String {
    let mut title = String::with_capacity(phrase.len());
    for word in phrase.split(' ') {
        if !title.is_empty() {
            title.push(' ');
        }
        let mut letters = word.chars();
        match letters.next() {
            Some(first) if !["of", "to", "the", "and"].contains(&word) => {
                title.extend(first.to_uppercase());
                title.push_str(letters.as_str());
            }
            _ => title.push_str(word),
        }
    }
    title
}

/// The email of user `number`, by which it is known.
pub(super) fn email(number: u64) -> String {
    format!("user{number}@example.com")
}

/// The password of user `number`.
pub(super) fn password(number: u64) -> String {
    format!("souk-demo-{number}")
}

/// User `number`, from 1, with the hash of its password.
pub(super) fn user(number: u64, password_hash: String) -> SampleUser {
    let mut dice = Dice::new(2, number);
    SampleUser {
        email: email(number),
        username: format!("user{number}"),
        password_hash,
        first_name: dice.word(FIRST_NAMES).to_owned(),
        last_name: dice.word(LAST_NAMES).to_owned(),
        phone: format!("+44 20 7946 {:04}", dice.below(1000)),
        address: format!("{} {}, {}", dice.between(1, 180), dice.word(STREETS), dice.word(TOWNS)),
        date_joined: dice.moment(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};

    use super::*;

    fn share(count: usize, of: usize) -> usize {
        count * 1000 / of
    }

    #[test]
    fn a_product_is_always_the_same() {
        let first = product(1);
        assert_eq!(first.name, "Solstice High-carbon Santoku, 13 cm");
        assert_eq!((first.sku.as_str(), first.price, first.stock), ("KNF-000001", Money(6550), 638));
        assert_eq!(first.created_at.to_string(), "2025-12-29T11:15:58.000000Z");
        assert_eq!(product(77), product(77));
        assert_ne!(product(77).name, product(78).name);
    }

    #[test]
    fn products_are_fit_to_be_stored_and_shown() {
        let mut skus = HashSet::new();
        for number in 1..=5_000 {
            let product = product(number);
            assert!(skus.insert(product.sku.clone()));
            assert!(product.sku.len() <= 64 && product.name.chars().count() <= 255, "{product:?}");
            assert!((200..=160_000).contains(&product.price.0), "{product:?}");
            let sentences = product.description.matches(['.', '!']).count();
            assert!((2..=5).contains(&sentences), "{product:?}");
            let text = format!("{} {}", product.name, product.description);
            assert!(!text.contains(['{', '}', '|', '\n']) && !text.contains("  "), "{product:?}");
        }
    }

    #[test]
    fn the_shop_is_varied() {
        let products: Vec<_> = (1..=10_000).map(product).collect();
        let count =
            |what: fn(&SampleProduct) -> bool| share(products.iter().filter(|one| what(one)).count(), 10_000);
        assert!((10..=30).contains(&count(|product| product.featured)));
        assert!((3..=20).contains(&count(|product| !product.is_active)));
        assert!((40..=80).contains(&count(|product| product.stock == 0)));
        assert!((70..=130).contains(&count(|product| (1..=5).contains(&product.stock))));
        let mut names: HashMap<&str, usize> = HashMap::new();
        for product in &products {
            *names.entry(&product.name).or_default() += 1;
        }
        assert!(names.len() > 9_500, "{} names for 10,000 products", names.len());
        let categories: HashSet<_> = products.iter().map(|product| &product.category).collect();
        assert_eq!(categories.len(), DEPARTMENTS.len());
    }

    #[test]
    fn categories_and_codes_are_all_different() {
        let names: HashSet<_> = DEPARTMENTS.iter().map(|department| department.category).collect();
        let codes: HashSet<_> = DEPARTMENTS.iter().map(|department| department.code).collect();
        assert!(
            names.len() == DEPARTMENTS.len() && codes.len() == DEPARTMENTS.len() && DEPARTMENTS.len() >= 20
        );
    }

    #[test]
    fn users_are_told_apart_by_their_number() {
        let user = user(7, "hash".to_owned());
        assert_eq!((user.email.as_str(), user.username.as_str()), ("user7@example.com", "user7"));
        assert_eq!(password(7), "souk-demo-7");
        assert!(!user.first_name.is_empty() && !user.address.is_empty());
    }
}
