//! CSV of products, read: first a look at what it would do, then all of it or nothing.
//!
//! A row with the SKU of a product changes that product, any other row is a new one. The rules are those of the product's
//! form. The look keeps nothing: the page that shows it carries the file's text, and it is read anew when it is to be done.
//! With it comes a digest of what was shown; if that would be something else by now, nothing is done and the new look is
//! shown. What happens after that is judged by the ledger, as for the product's form. The writing is one work, in one
//! transaction.

use std::collections::{BTreeMap, HashSet};

use askama::Template;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use salvo::http::StatusCode;
use salvo::{Depot, handler};
use sha2::{Digest, Sha256};
use souk_actors::to_its_end;
use souk_store::catalogue;
use souk_store::ledger::{ProductChange, Seen, Work};
use souk_store::model::{Category, Product, fold};

use super::export::{PRODUCTS, unguarded};
use super::form::Form;
use super::page::{Flash, Layout, Page};
use super::products::LIST;
use super::session::{form, staff};
use super::view::{plural, shortened};
use crate::Api;
use crate::catalogue::{as_new, read_fields};
use crate::error::{ApiError, FieldErrors};
use crate::extract::api;
use crate::fields::{Fields, Sent};

/// The most rows of a file: while they are written nobody can order.
const MOST_ROWS: usize = 1_000;

/// The longest file; the page that shows what it would do carries it.
const MOST_BYTES: usize = 900 * 1024;

/// How many rows the look shows, of those that are bad and of the others.
const SHOWN: usize = 200;

/// The longest text of a difference, in characters.
const LONGEST_DIFFERENCE: usize = 60;

/// Somebody was quicker.
const CHANGED_MEANWHILE: &str = "Nothing was imported: some of these products, or a category, were changed meanwhile. This is \
    what the file would do now; look again. Without the column “stock” sales in between change nothing.";

/// The columns that are read. The last one of our own files, a product's number, says nothing new and is passed over.
const COLUMNS: &[&str] = {
    let [columns @ .., _] = &PRODUCTS;
    columns
};

#[derive(Template)]
#[template(path = "admin/import.html")]
struct ImportPage {
    layout: Layout,
    /// What is wrong with the file as a whole.
    error: Option<String>,
    look: Option<Look>,
}

/// What a file would do.
#[derive(Default)]
struct Look {
    text: String,
    bad: Vec<BadRow>,
    rows: Vec<GoodRow>,
    works: Vec<Work>,
    new: usize,
    changed: usize,
    same: usize,
    /// Of all that is shown, and of the state of the products that it was made of.
    shown: Sha256,
}

struct BadRow {
    line: u64,
    sku: String,
    messages: Vec<String>,
}

/// A row that would do something.
struct GoodRow {
    line: u64,
    sku: String,
    name: String,
    /// Each as `price: 1.00 → 2.00`; none if the product is new.
    changes: Vec<String>,
}

impl Look {
    fn can_be_done(&self) -> bool {
        self.bad.is_empty() && !self.works.is_empty()
    }

    /// By which the page's form says what it showed.
    fn digest(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.shown.clone().finalize())
    }
}

fn page(
    depot: &Depot,
    status: StatusCode,
    error: Option<String>,
    look: Option<Look>,
) -> Result<Page, ApiError> {
    let layout = Layout::new(staff(depot), "products", "Import products");
    Page::html(status, &ImportPage { layout, error, look })
}

#[handler]
pub(super) fn show(depot: &mut Depot) -> Result<Page, ApiError> {
    page(depot, StatusCode::OK, None, None)
}

/// The first time a file is looked at, the second time its text is, and it is done.
pub(super) async fn take(depot: &mut Depot) -> Result<Page, ApiError> {
    let (api, staff, form) = (api(depot), staff(depot), form(depot));
    let text = match text_of(form) {
        Ok(text) => text,
        Err(why) => return page(depot, StatusCode::BAD_REQUEST, Some(why), None),
    };
    let mut look = match look_at(api, text).await? {
        Ok(look) => look,
        Err(why) => return page(depot, StatusCode::BAD_REQUEST, Some(why), None),
    };
    let again = |look| page(depot, StatusCode::CONFLICT, Some(CHANGED_MEANWHILE.to_owned()), look);
    if form.is_ticked("done") && form.text("shown") != look.digest() {
        return again(Some(look));
    }
    if !form.is_ticked("done") || !look.can_be_done() {
        let status = if look.bad.is_empty() { StatusCode::OK } else { StatusCode::BAD_REQUEST };
        return page(depot, status, None, Some(look));
    }
    let (ledger, works) = (api.handles.ledger.by(staff.author()), std::mem::take(&mut look.works));
    match to_its_end(async move { ledger.write_together(works).await }).await {
        Ok(()) => {
            let (new, changed) = (plural(look.new, "product", "products"), look.changed);
            let flash = Flash::done(format!("The file was imported: {new} created, {changed} changed."));
            Ok(Page::see_with(LIST, staff, &flash))
        }
        Err(refused) => {
            let error = ApiError::from(refused);
            if !error.status().is_client_error() {
                return Err(error);
            }
            again(look_at(api, std::mem::take(&mut look.text)).await?.ok())
        }
    }
}

/// The text of the file that was chosen, or of the one that was looked at.
fn text_of(form: &Form) -> Result<String, String> {
    let text = match form.file("file") {
        Some(file) => String::from_utf8(file.bytes.to_vec())
            .map_err(|_| "The file is not UTF-8 text. Save it as “CSV UTF-8”.".to_owned())?,
        None => form.text("text").to_owned(),
    };
    let text = text.trim_start_matches('\u{feff}').replace("\r\n", "\n").replace('\r', "\n");
    // A browser sends every line break of a page's text as two signs.
    if text.len() + text.matches('\n').count() > MOST_BYTES {
        return Err(format!("The file is larger than {} KiB: import it in parts.", MOST_BYTES / 1024));
    }
    if text.trim().is_empty() {
        return Err("Choose a file with a line of column names and a line for each product.".to_owned());
    }
    Ok(text)
}

/// A row as it stands in the file: where, and its cells by column, without those that are empty.
struct Row {
    line: u64,
    cells: BTreeMap<String, String>,
}

impl Row {
    fn cell(&self, name: &str) -> &str {
        self.cells.get(name).map_or("", String::as_str)
    }
}

/// The rows, or what is wrong with the file as a whole.
fn rows_of(text: &str) -> Result<Vec<Row>, String> {
    // A last record that is nobody's: if it is not found as one, it was swallowed by a quotation mark.
    let whole = format!("{text}\n\"\"");
    let is_swallowed = |reader: &csv::Reader<&[u8]>| reader.position().byte() >= whole.len() as u64;
    let unclosed = |line: u64| {
        format!(
            "A quotation mark in the record that begins in line {line} is never closed: all after it would be one cell."
        )
    };
    let told = |_: csv::Error| "The file cannot be read as CSV.".to_owned();
    let mut reader =
        csv::ReaderBuilder::new().trim(csv::Trim::All).flexible(true).from_reader(whole.as_bytes());
    let names: Vec<String> = reader.headers().map_err(told)?.iter().map(|name| name.to_lowercase()).collect();
    if is_swallowed(&reader) {
        return Err(unclosed(1));
    }
    if let Some(name) = names.iter().find(|name| !PRODUCTS.contains(&name.as_str())) {
        return Err(format!("There is no column “{name}”. The columns are: {}.", COLUMNS.join(", ")));
    }
    if !names.iter().any(|name| name == "sku") {
        return Err("The column “sku” is missing: by it products are found.".to_owned());
    }
    if names.iter().collect::<HashSet<_>>().len() != names.len() {
        return Err("A column is there twice.".to_owned());
    }
    let mut rows = Vec::new();
    let mut record = csv::StringRecord::new();
    while reader.read_record(&mut record).map_err(told)? {
        let (at, line) = record.position().map_or((0, 0), |position| beginning(&whole, position));
        if at > text.len() {
            break;
        }
        if is_swallowed(&reader) {
            return Err(unclosed(line));
        }
        if record.len() != names.len() {
            return Err(format!(
                "Line {line} cannot be read: it has more or fewer cells than there are columns."
            ));
        }
        if rows.len() == MOST_ROWS {
            return Err(format!("The file has more than {MOST_ROWS} rows: import it in parts."));
        }
        let cells = names.iter().cloned().zip(record.iter().map(unguarded));
        let cells = cells.filter(|(name, cell)| !cell.is_empty() && COLUMNS.contains(&name.as_str()));
        rows.push(Row { line, cells: cells.collect() });
    }
    Ok(rows)
}

/// Where a record begins, and in which line: the reader counts the empty lines before it as its own.
fn beginning(text: &str, position: &csv::Position) -> (usize, u64) {
    let from = usize::try_from(position.byte()).unwrap_or(usize::MAX);
    let empty = text.as_bytes().iter().skip(from).take_while(|byte| **byte == b'\n').count();
    (from + empty, position.line() + empty as u64)
}

async fn look_at(api: &Api, text: String) -> Result<Result<Look, String>, ApiError> {
    let rows = match rows_of(&text) {
        Ok(rows) if rows.is_empty() => {
            return Ok(Err("The file has no rows below its column names.".to_owned()));
        }
        Ok(rows) => rows,
        Err(why) => return Ok(Err(why)),
    };
    let skus: Vec<String> =
        rows.iter().map(|row| row.cell("sku").to_owned()).filter(|sku| !sku.is_empty()).collect();
    let known = catalogue::by_skus(&api.db, &skus).await?;
    let known: BTreeMap<&str, &Product> =
        known.iter().map(|product| (product.sku.as_str(), product)).collect();
    let categories = api.cache.categories(&api.db, true).await?;
    let mut look = Look { text, ..Look::default() };
    let mut seen = BTreeMap::new();
    for row in &rows {
        let sku = row.cell("sku").to_owned();
        let product = known.get(sku.as_str()).copied();
        let mut fields = fields_of(row, &categories);
        if sku.is_empty() {
            fields.error("sku", "This field may not be blank.");
        } else if let Some(line) = seen.insert(sku.clone(), row.line) {
            fields.error("sku", format!("Line {line} has the same."));
        }
        let change = read_fields(&mut fields, api, product.is_none()).await?;
        let errors = fields.into_errors();
        if errors.is_empty() {
            look.add(row.line, sku, product, change, &categories);
        } else {
            look.bad.push(BadRow { line: row.line, sku, messages: messages(&errors) });
        }
    }
    Ok(Ok(look))
}

/// The cells as the fields of a product's form; a category is told by its name.
fn fields_of(row: &Row, categories: &[Category]) -> Fields {
    let mut unknown = None;
    let cells = row.cells.iter().filter_map(|(name, cell)| {
        if name != "category" {
            return Some((name.clone(), Sent::Text(cell.clone())));
        }
        let folded = fold(cell);
        let found = categories.iter().find(|category| fold(&category.name) == folded);
        if found.is_none() {
            unknown = Some(format!("No category is named “{cell}”."));
        }
        // One that nobody has, so that nothing else is said about it.
        found.map(|category| (name.clone(), Sent::Text(category.id.to_string())))
    });
    let mut fields = Fields::from_form(cells.collect::<Vec<_>>());
    if let Some(message) = unknown {
        fields.error("category", message);
    }
    fields
}

/// What is wrong with a row, each message with its column.
fn messages(errors: &FieldErrors) -> Vec<String> {
    let of =
        |name: &'static str| errors.messages(name).iter().map(move |message| format!("{name}: {message}"));
    // An unknown category is not missing as well.
    let is_told_twice = errors.messages("category").len() > 1;
    COLUMNS
        .iter()
        .copied()
        .flat_map(of)
        .filter(|message| !(is_told_twice && message == "category: This field is required."))
        .collect()
}

impl Look {
    fn add(
        &mut self,
        line: u64,
        sku: String,
        product: Option<&Product>,
        change: ProductChange,
        categories: &[Category],
    ) {
        let category = change.category_id.and_then(|id| categories.iter().find(|category| category.id == id));
        let Some(product) = product else {
            let new = as_new(change).expect("a row without errors has all that a product needs");
            self.new += 1;
            self.note(&sku, "new", category.map(|category| category.id.to_string()));
            self.rows.push(GoodRow { line, sku, name: new.name.clone(), changes: Vec::new() });
            self.works.push(Work::Create(Box::new(new)));
            return;
        };
        let changes = differences(product, &change, category);
        // The level counts only if the file says one.
        let level = change.stock.map(|_| product.stock.to_string());
        let made_of = changes.iter().cloned().chain([product.updated_at.to_string()]).chain(level);
        self.note(&sku, if changes.is_empty() { "same" } else { "changed" }, made_of);
        if changes.is_empty() {
            self.same += 1;
            return;
        }
        self.changed += 1;
        self.rows.push(GoodRow { line, sku, name: product.name.clone(), changes });
        // A level that is what it was shall not be written: a sale in between is never undone.
        let stock = change.stock.filter(|stock| *stock != product.stock);
        let seen =
            Seen { version: None, updated_at: Some(product.updated_at), stock: stock.map(|_| product.stock) };
        let change = ProductChange { sku: None, stock, ..change };
        self.works.push(Work::Change(product.id, Box::new(change), seen));
    }

    /// Notes what is shown of a row. Lengths keep texts apart.
    fn note(&mut self, sku: &str, what: &str, more: impl IntoIterator<Item = String>) {
        let more: Vec<String> = more.into_iter().collect();
        for text in [sku, what].into_iter().chain(more.iter().map(String::as_str)) {
            self.shown.update(text.len().to_le_bytes());
            self.shown.update(text);
        }
    }
}

/// What would be another value, column by column.
pub(super) fn differences(
    product: &Product,
    change: &ProductChange,
    category: Option<&Category>,
) -> Vec<String> {
    let mut found = Vec::new();
    let mut compare = |name: &str, before: String, after: Option<String>| {
        if let Some(after) = after.filter(|after| *after != before) {
            let short = |text| shortened(text, LONGEST_DIFFERENCE);
            found.push(format!("{name}: {} → {}", short(&before), short(&after)));
        }
    };
    compare("name", product.name.clone(), change.name.clone());
    compare("description", product.description.clone(), change.description.clone());
    compare("price", product.price.to_string(), change.price.map(|price| price.to_string()));
    compare("stock", product.stock.to_string(), change.stock.map(|stock| stock.to_string()));
    compare("category", product.category_name.clone(), category.map(|category| category.name.clone()));
    compare("sku", product.sku.clone(), change.sku.clone());
    compare("featured", product.featured.to_string(), change.featured.map(|is| is.to_string()));
    compare("active", product.is_active.to_string(), change.is_active.map(|is| is.to_string()));
    found
}
