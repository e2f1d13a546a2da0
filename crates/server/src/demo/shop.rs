//! The sample database: a small web shop, the same on every run.
//!
//! Rows are written as COPY's text format. Foreign keys hold by construction: orders name customers
//! and products that exist, and an order's total is the sum of its items.

use std::fmt::Write;

pub const CUSTOMERS: u32 = 5_000;
pub const PRODUCTS: u32 = 1_000;
pub const ORDERS: u32 = 30_000;

/// Most different products in one order.
const MAX_ITEMS: u64 = 4;

/// 2025-01-01 00:00 UTC, and the span over which orders are spread, in seconds.
const FIRST_DAY: u64 = 1_735_689_600;
const SPAN_SECONDS: u64 = 540 * 86_400;

pub const SCHEMA: &[&str] = &[
    "CREATE TABLE customers (
        id integer PRIMARY KEY,
        name text NOT NULL,
        email text NOT NULL UNIQUE,
        country char(2) NOT NULL,
        created_at timestamptz NOT NULL
    )",
    "CREATE TABLE products (
        id integer PRIMARY KEY,
        sku text NOT NULL UNIQUE,
        name text NOT NULL,
        category text NOT NULL,
        price numeric(10, 2) NOT NULL CHECK (price > 0),
        stock integer NOT NULL DEFAULT 0
    )",
    "CREATE TABLE orders (
        id bigint PRIMARY KEY,
        customer_id integer NOT NULL REFERENCES customers (id),
        placed_at timestamptz NOT NULL,
        status text NOT NULL CHECK (status IN ('new', 'paid', 'shipped', 'returned')),
        total numeric(12, 2) NOT NULL,
        details jsonb NOT NULL
    )",
    "CREATE TABLE order_items (
        order_id bigint NOT NULL REFERENCES orders (id) ON DELETE CASCADE,
        line integer NOT NULL,
        product_id integer NOT NULL REFERENCES products (id),
        quantity integer NOT NULL CHECK (quantity > 0),
        price numeric(10, 2) NOT NULL,
        PRIMARY KEY (order_id, line)
    )",
    "CREATE INDEX orders_customer_id ON orders (customer_id)",
    "CREATE INDEX orders_placed_at ON orders (placed_at DESC)",
    "CREATE INDEX order_items_product_id ON order_items (product_id)",
];

pub const SAMPLE_QUERIES: &[&str] = &[
    "SELECT c.country, count(*) AS orders, sum(o.total) AS revenue
  FROM orders o JOIN customers c ON c.id = o.customer_id
 GROUP BY c.country ORDER BY revenue DESC LIMIT 5;",
    "SELECT p.name, sum(i.quantity) AS sold
  FROM order_items i JOIN products p ON p.id = i.product_id
 GROUP BY p.name ORDER BY sold DESC LIMIT 5;",
    "SELECT id, total, details->'shipping'->>'city' AS city
  FROM orders
 WHERE details->'shipping'->>'method' = 'express' AND total > 2000
 ORDER BY total DESC LIMIT 5;",
];

const FIRST_NAMES: &[&str] = &[
    "Ada", "Amir", "Bea", "Chen", "Dana", "Elif", "Femi", "Grace", "Hugo", "Ines", "Jonas", "Kofi",
    "Lena", "Mara", "Nils", "Olga", "Priya", "Quinn", "Rosa", "Sven", "Tara", "Uma", "Viktor",
    "Wei", "Yara", "Zoë",
];
const LAST_NAMES: &[&str] = &[
    "Adler", "Berg", "Costa", "Diaz", "Evans", "Fischer", "García", "Haddad", "Ito", "Jansen",
    "Kim", "Larsen", "Moreau", "Novak", "Okafor", "Patel", "Rossi", "Silva", "Tanaka", "Weber",
];
const COUNTRIES: &[(&str, &str)] = &[
    ("DE", "Berlin"),
    ("FR", "Lyon"),
    ("US", "Chicago"),
    ("JP", "Osaka"),
    ("BR", "Recife"),
    ("IN", "Pune"),
    ("NG", "Lagos"),
    ("SE", "Malmö"),
];
const CATEGORIES: &[(&str, &[&str])] = &[
    ("kitchen", &["Kettle", "Pan", "Knife", "Mug", "Scale"]),
    ("garden", &["Spade", "Hose", "Lantern", "Bench", "Planter"]),
    ("office", &["Desk", "Lamp", "Chair", "Notebook", "Pen set"]),
    (
        "outdoor",
        &["Tent", "Backpack", "Stove", "Hammock", "Bottle"],
    ),
    (
        "audio",
        &["Headphones", "Speaker", "Turntable", "Microphone", "Radio"],
    ),
];
const MATERIALS: &[&str] = &[
    "Oak", "Steel", "Copper", "Linen", "Glass", "Bamboo", "Ceramic",
];

/// SplitMix64 (Steele, Lea, Flood 2014): the same numbers everywhere and for ever.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn of<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len() as u64) as usize]
    }
}

/// A price in cents from the product's number alone, so that orders know it without a table.
fn price_cents(product: u32) -> u64 {
    Dice(u64::from(product)).below(49_000) + 299
}

fn money(cents: u64) -> String {
    format!("{}.{:02}", cents / 100, cents % 100)
}

/// `YYYY-MM-DD hh:mm:ss+00` (civil date from days: Howard Hinnant's algorithm, years 2000–2100).
fn timestamp(unix_seconds: u64) -> String {
    let days = unix_seconds / 86_400 + 719_468;
    let era_day = days % 146_097;
    let year_of_era = (era_day - era_day / 1_460 + era_day / 36_524 - era_day / 146_096) / 365;
    let day_of_year = era_day - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + days / 146_097 * 400 + u64::from(month <= 2);
    let second = unix_seconds % 86_400;
    format!(
        "{year}-{month:02}-{day:02} {:02}:{:02}:{:02}+00",
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}

fn place_of(customer: u32) -> (&'static str, &'static str) {
    *Dice(u64::from(customer) ^ 0xc0ffee).of(COUNTRIES)
}

/// One line of COPY text for customer `id` (from 1).
pub fn customer(id: u32, out: &mut String) {
    let mut dice = Dice(u64::from(id) << 20);
    let first = dice.of(FIRST_NAMES);
    let last = dice.of(LAST_NAMES);
    let created = timestamp(FIRST_DAY - dice.below(700 * 86_400));
    let (country, _) = place_of(id);
    let _ = writeln!(
        out,
        "{id}\t{first} {last}\tcustomer{id}@example.com\t{country}\t{created}"
    );
}

/// One line of COPY text for product `id` (from 1).
pub fn product(id: u32, out: &mut String) {
    let mut dice = Dice(u64::from(id) << 21);
    let (category, kinds) = *dice.of(CATEGORIES);
    let kind = dice.of(kinds);
    let material = dice.of(MATERIALS);
    let price = money(price_cents(id));
    let stock = dice.below(500);
    let _ = writeln!(
        out,
        "{id}\tSKU-{id:05}\t{material} {kind} {id}\t{category}\t{price}\t{stock}"
    );
}

struct Item {
    product: u32,
    quantity: u64,
}

fn items(order: u32) -> Vec<Item> {
    let mut dice = Dice(u64::from(order) << 22);
    let count = dice.below(MAX_ITEMS) + 1;
    let first = dice.below(u64::from(PRODUCTS));
    (0..count)
        .map(|at| Item {
            // Steps of a fixed width never meet within one order.
            product: ((first + at * 37) % u64::from(PRODUCTS)) as u32 + 1,
            quantity: dice.below(3) + 1,
        })
        .collect()
}

/// One line of COPY text for order `id` (from 1).
pub fn order(id: u32, out: &mut String) {
    let mut dice = Dice(u64::from(id) << 23);
    let customer = dice.below(u64::from(CUSTOMERS)) as u32 + 1;
    let (country, city) = place_of(customer);
    let placed = timestamp(FIRST_DAY + SPAN_SECONDS * u64::from(id) / u64::from(ORDERS));
    let status = dice.of(&[
        "new", "paid", "paid", "shipped", "shipped", "shipped", "returned",
    ]);
    let method = dice.of(&["standard", "standard", "express", "pickup"]);
    let items = items(id);
    let total: u64 = items
        .iter()
        .map(|i| i.quantity * price_cents(i.product))
        .sum();
    let listed: Vec<String> = items
        .iter()
        .map(|item| {
            format!(
                "{{\"product\": {}, \"quantity\": {}, \"price\": {}}}",
                item.product,
                item.quantity,
                money(price_cents(item.product))
            )
        })
        .collect();
    let _ = writeln!(
        out,
        "{id}\t{customer}\t{placed}\t{status}\t{}\t{{\"shipping\": {{\"method\": \"{method}\", \
         \"city\": \"{city}\", \"country\": \"{country}\"}}, \"gift\": {}, \"items\": [{}]}}",
        money(total),
        dice.below(10) == 0,
        listed.join(", ")
    );
}

/// The lines of COPY text for the items of order `id`.
pub fn order_items(id: u32, out: &mut String) {
    for (line, item) in items(id).iter().enumerate() {
        let _ = writeln!(
            out,
            "{id}\t{}\t{}\t{}\t{}",
            line + 1,
            item.product,
            item.quantity,
            money(price_cents(item.product))
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_civil() {
        assert_eq!(timestamp(FIRST_DAY), "2025-01-01 00:00:00+00");
        assert_eq!(timestamp(1_709_210_096), "2024-02-29 12:34:56+00");
        assert_eq!(timestamp(1_767_225_599), "2025-12-31 23:59:59+00");
    }

    #[test]
    fn totals_are_the_sum_of_the_items() {
        for id in [1, 77, ORDERS] {
            let (mut line, mut lines) = (String::new(), String::new());
            order(id, &mut line);
            order_items(id, &mut lines);
            let cents = |text: &str| -> u64 { text.replace('.', "").parse().expect("money") };
            let sum: u64 = lines
                .lines()
                .map(|line| {
                    let fields: Vec<&str> = line.split('\t').collect();
                    fields[3].parse::<u64>().expect("quantity") * cents(fields[4])
                })
                .sum();
            let fields: Vec<&str> = line.trim_end().split('\t').collect();
            assert_eq!(cents(fields[4]), sum);
            let details: serde_json::Value = serde_json::from_str(fields[5]).expect("JSON");
            assert!(details["shipping"]["city"].is_string());
        }
    }

    #[test]
    fn products_of_an_order_differ() {
        for id in 1..=500 {
            let mut products: Vec<u32> = items(id).iter().map(|item| item.product).collect();
            products.sort_unstable();
            let before = products.len();
            products.dedup();
            assert_eq!(products.len(), before);
        }
    }
}
