//! The books, checked against each other: what `souk audit` asks.
//!
//! Everything is read in one snapshot, so that a live database is judged as of one moment and never waits. Nothing is
//! written. Each check is a statement that finds what contradicts it, with a text for each finding; an order's items of
//! a product that has been deleted since are no finding, because the product's movements went with it.

use crate::db::{Db, Statement, StoreError, statements};

/// What one check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What must be true.
    pub rule: &'static str,
    /// How many rows it was asked of.
    pub rows: i64,
    /// How many of them contradict it.
    pub violations: i64,
    /// Some of those, in words.
    pub examples: Vec<String>,
}

statements! {
    PRODUCTS: "select count(*) from products";
    MOVEMENTS: "select count(*) from stock_movements";
    ORDERS: "select count(*) from orders";
    ITEMS: "select count(*) from order_items";
    STEPS: "select count(*) from order_steps";
    EVENTS: "select count(*) from events";
    KEYS: "select count(*) from idempotency_keys";

    LEVEL_IS_SUM: "select count(*) over (), 'product ' || p.id || ': level ' || p.stock || ', movements sum to ' \
                   || coalesce(m.total, 0) \
                   from products p left join (select product_id, sum(change) as total from stock_movements \
                   group by product_id) m on m.product_id = p.id \
                   where p.stock <> coalesce(m.total, 0) order by p.id limit 5";
    LEVEL_FOLLOWS: "select count(*) over (), 'movement ' || m.id || ' of product ' || m.product_id || ': level ' \
                    || m.level || ', movements until then sum to ' || m.total \
                    from (select id, product_id, level, sum(change) over (partition by product_id order by id) as total \
                    from stock_movements) m where m.level <> m.total order by m.id limit 5";
    NEVER_NEGATIVE: "select count(*) over (), f.finding from ( \
                     select 'product ' || id || ': level ' || stock as finding from products where stock < 0 \
                     union all \
                     select 'movement ' || id || ' of product ' || product_id || ': level ' || level \
                     from stock_movements where level < 0) f order by f.finding limit 5";
    HAS_ITEMS: "select count(*) over (), 'order ' || o.id from orders o \
                where not exists (select 1 from order_items i where i.order_id = o.id) order by o.id limit 5";
    TOTAL_IS_LINES: "select count(*) over (), 'order ' || o.id || ': total ' || o.total || ' cents, items sum to ' \
                     || coalesce(i.total, 0) \
                     from orders o left join (select order_id, sum(price * quantity) as total from order_items \
                     group by order_id) i on i.order_id = o.id \
                     where o.total <> coalesce(i.total, 0) order by o.id limit 5";
    /// Both ways: an item without its movement, and a movement without its item.
    TAKEN_ONCE: "select count(*) over (), f.finding from ( \
                 select 'order ' || i.order_id || ': ' || i.quantity || ' of product ' || i.product_id || ', taken ' \
                 || coalesce(-m.change, 0) || ' by ' || coalesce(m.rows_found, 0) || ' movements' as finding \
                 from (select order_id, product_id, sum(quantity) as quantity from order_items \
                 group by order_id, product_id) i join products p on p.id = i.product_id \
                 left join (select order_id, product_id, sum(change) as change, count(*) as rows_found \
                 from stock_movements where kind = 'order' group by order_id, product_id) m \
                 on m.order_id = i.order_id and m.product_id = i.product_id \
                 where coalesce(m.change, 0) <> -i.quantity or m.rows_found <> 1 \
                 union all \
                 select 'movement ' || m.id || ' took ' || -m.change || ' of product ' || m.product_id \
                 || ' for no order' from stock_movements m where m.kind = 'order' and not exists \
                 (select 1 from order_items i where i.order_id = m.order_id and i.product_id = m.product_id) \
                 ) f order by f.finding limit 5";
    /// Both ways, as for what was taken.
    RETURNED_ONCE: "select count(*) over (), f.finding from ( \
                    select 'order ' || i.order_id || ': cancelled, but of ' || i.quantity || ' of product ' \
                    || i.product_id || ' returned ' || coalesce(m.change, 0) || ' by ' || coalesce(m.rows_found, 0) \
                    || ' movements' as finding \
                    from (select x.order_id, x.product_id, sum(x.quantity) as quantity from order_items x \
                    join orders o on o.id = x.order_id and o.status = 'cancelled' \
                    group by x.order_id, x.product_id) i join products p on p.id = i.product_id \
                    left join (select order_id, product_id, sum(change) as change, count(*) as rows_found \
                    from stock_movements where kind = 'cancel' group by order_id, product_id) m \
                    on m.order_id = i.order_id and m.product_id = i.product_id \
                    where coalesce(m.change, 0) <> i.quantity or m.rows_found <> 1 \
                    union all \
                    select 'movement ' || m.id || ' returned ' || m.change || ' of product ' || m.product_id \
                    || ' for no cancelled order' from stock_movements m where m.kind = 'cancel' and not exists \
                    (select 1 from order_items i join orders o on o.id = i.order_id and o.status = 'cancelled' \
                    where i.order_id = m.order_id and i.product_id = m.product_id) \
                    ) f order by f.finding limit 5";
    STATUS_IS_LAST_STEP: "select count(*) over (), 'order ' || o.id || ': ' || o.status || ', steps: ' || o.steps \
                          from (select o.id, o.status, \
                          case when exists (select 1 from order_steps s where s.order_id = o.id \
                          and s.status = 'shipped') then 'shipped ' else '' end \
                          || case when exists (select 1 from order_steps s where s.order_id = o.id \
                          and s.status = 'delivered') then 'delivered ' else '' end \
                          || case when exists (select 1 from order_steps s where s.order_id = o.id \
                          and s.status = 'cancelled') then 'cancelled ' else '' end as steps from orders o) o \
                          where o.steps <> case o.status when 'pending' then '' when 'shipped' then 'shipped ' \
                          when 'delivered' then 'shipped delivered ' else 'cancelled ' end order by o.id limit 5";
    GAPLESS: "select count(*) over (), f.finding from ( \
              select 'user ' || e.user_id || ': ' || e.rows_found || ' events numbered ' || e.first || ' to ' || e.last \
              || ', last number given ' || coalesce(b.last_event_id, 0) as finding \
              from (select user_id, count(*) as rows_found, min(id) as first, max(id) as last from events \
              group by user_id) e left join inboxes b on b.user_id = e.user_id \
              where e.first <> 1 or e.last <> e.rows_found or e.last <> coalesce(b.last_event_id, 0) \
              union all \
              select 'user ' || b.user_id || ': no events, last number given ' || b.last_event_id from inboxes b \
              where b.last_event_id <> 0 and not exists (select 1 from events e where e.user_id = b.user_id) \
              union all \
              select 'user ' || b.user_id || ': read up to ' || b.read_up_to || ' of ' || b.last_event_id \
              from inboxes b where b.read_up_to > b.last_event_id or b.read_up_to < 0 \
              ) f order by f.finding limit 5";
    /// Both ways, and to the order's own user.
    ORDER_TOLD_ONCE: "select count(*) over (), f.finding from ( \
                      select 'order ' || o.id || ': announced ' || coalesce(e.rows_found, 0) || ' times' as finding \
                      from orders o left join (select order_id, user_id, count(*) as rows_found from events \
                      where kind = 'order_created' group by order_id, user_id) e \
                      on e.order_id = o.id and e.user_id = o.user_id where coalesce(e.rows_found, 0) <> 1 \
                      union all \
                      select 'event ' || e.id || ' of user ' || e.user_id || ' announces order ' || e.order_id \
                      || ', which is not there' from events e where e.kind = 'order_created' and not exists \
                      (select 1 from orders o where o.id = e.order_id and o.user_id = e.user_id) \
                      ) f order by f.finding limit 5";
    STEP_TOLD_ONCE: "select count(*) over (), f.finding from ( \
                     select 'order ' || s.order_id || ': its step to ' || s.status || ' was told ' \
                     || coalesce(e.rows_found, 0) || ' times' as finding \
                     from order_steps s join orders o on o.id = s.order_id \
                     left join (select order_id, user_id, status, count(*) as rows_found from events \
                     where kind = 'order_status_update' group by order_id, user_id, status) e \
                     on e.order_id = s.order_id and e.user_id = o.user_id and e.status = s.status \
                     where coalesce(e.rows_found, 0) <> 1 \
                     union all \
                     select 'event ' || e.id || ' of user ' || e.user_id || ' tells of a step of order ' || e.order_id \
                     || ' to ' || e.status || ', which it did not take' \
                     from events e where e.kind = 'order_status_update' and not exists \
                     (select 1 from order_steps s join orders o on o.id = s.order_id where s.order_id = e.order_id \
                     and s.status = e.status and o.user_id = e.user_id) \
                     ) f order by f.finding limit 5";
    KEY_HAS_ANSWER: "select count(*) over (), 'a key of user ' || k.user_id || coalesce(': order ' || k.order_id \
                     || ' is not there, or not this user''s', ': neither an order nor a refusal') \
                     from idempotency_keys k where case when k.order_id is null then k.refusal is null \
                     else not exists (select 1 from orders o where o.id = k.order_id and o.user_id = k.user_id) end \
                     order by k.user_id limit 5";
}

/// What must be true, of how many rows, and the statement that finds what contradicts it.
const RULES: &[(&str, &Statement, &Statement)] = &[
    ("the level is the sum of the movements", &PRODUCTS, &LEVEL_IS_SUM),
    ("each movement's level follows from those before", &MOVEMENTS, &LEVEL_FOLLOWS),
    ("no level is below zero", &MOVEMENTS, &NEVER_NEGATIVE),
    ("no order is without items", &ORDERS, &HAS_ITEMS),
    ("every total is the sum of its items", &ORDERS, &TOTAL_IS_LINES),
    ("every taken unit is in one order", &ITEMS, &TAKEN_ONCE),
    ("cancelled orders, and no others, gave units back", &ITEMS, &RETURNED_ONCE),
    ("an order's status is its last step", &ORDERS, &STATUS_IS_LAST_STEP),
    ("events are numbered without a gap", &EVENTS, &GAPLESS),
    ("every order was announced once", &ORDERS, &ORDER_TOLD_ONCE),
    ("every step was told once", &STEPS, &STEP_TOLD_ONCE),
    ("every idempotency key has its answer", &KEYS, &KEY_HAS_ANSWER),
];

/// Checks every rule, as of one moment.
///
/// # Errors
/// Any [`StoreError`]: [`StoreError::Fault`] if this is no migrated database of Souk.
pub async fn audit(db: &Db) -> Result<Vec<Check>, StoreError> {
    let mut checks = Vec::with_capacity(RULES.len());
    macro_rules! check_all {
        ($begin:expr) => {{
            let mut snapshot = $begin.await?;
            for (rule, rows, violations) in RULES {
                let (rows,): (i64,) = sqlx::query_as(rows.on(db)).fetch_one(&mut *snapshot).await?;
                let found: Vec<(i64, String)> =
                    sqlx::query_as(violations.on(db)).fetch_all(&mut *snapshot).await?;
                checks.push(Check {
                    rule,
                    rows,
                    violations: found.first().map_or(0, |row| row.0),
                    examples: found.into_iter().map(|row| row.1).collect(),
                });
            }
        }};
    }
    match db {
        Db::Sqlite(pools) => check_all!(pools.readers.begin()),
        Db::Postgres(pool) => check_all!(pool.snapshot()),
    }
    Ok(checks)
}

#[cfg(test)]
mod tests;
