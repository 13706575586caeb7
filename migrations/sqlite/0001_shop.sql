-- Times are RFC 3339 text in UTC as sqlx writes them, which sort as they follow each other. Money is whole cents.
-- `autoincrement` keeps an id from being given out twice: clients and caches remember ids of what was deleted.

create table users (
    id integer primary key autoincrement,
    email text not null,
    email_folded text not null unique,
    username text not null,
    username_folded text not null unique,
    password_hash text not null,
    first_name text not null default '',
    last_name text not null default '',
    phone text not null default '',
    address text not null default '',
    date_of_birth date,
    is_admin boolean not null default false,
    is_active boolean not null default true,
    date_joined datetime not null,
    last_login datetime,
    bio text not null default '',
    avatar text,
    preferences text not null default '{}'
);
create index users_admins on users (id) where is_admin;

-- One row a login. Of the refresh tokens of a family only the one named here is alive.
create table refresh_families (
    id blob primary key not null,
    user_id integer not null references users (id) on delete cascade,
    current_token blob not null,
    revoked_at datetime,
    expires_at datetime not null
) without rowid;
create index refresh_families_user on refresh_families (user_id);
create index refresh_families_expiry on refresh_families (expires_at);

create table categories (
    id integer primary key autoincrement,
    name text not null,
    name_folded text not null unique,
    description text not null default '',
    image text,
    is_active boolean not null default true,
    created_at datetime not null,
    updated_at datetime not null
);

-- What is long comes last: whoever needs only the rest of a row need not read over it.
create table products (
    id integer primary key autoincrement,
    name text not null,
    name_folded text not null,
    price bigint not null check (price between 0 and 9999999999),
    stock bigint not null default 0 check (stock between 0 and 2147483647),
    version bigint not null default 1,
    category_id integer not null references categories (id),
    sku text not null unique,
    featured boolean not null default false,
    is_active boolean not null default true,
    image text,
    created_at datetime not null,
    updated_at datetime not null,
    -- Folded name and description, each with a line feed, and one more: so a trigram begins at every character.
    search_text text not null,
    description text not null default '',
    -- What lists are filtered by, as words that no text has: they are made of noncharacters (U+FDD0 and after), which
    -- are left out of the searched text. So one full-text query finds and counts what matches and passes the filters.
    search_tags text generated always as (
        case when is_active then '' else char(64976, 64977, 64978) end
        || case when featured then char(64976, 64977, 64979) else '' end
        || char(64976) || category_id || char(64977)
    ) virtual
);
-- One for each order of a list, with all that lists are filtered by: counting and paging never touch the rows. Stock
-- is not among it, since it changes with every order; what is sold out is few and has an index of its own.
create index products_newest on products (created_at, id, is_active, category_id, featured, price);
create index products_by_price on products (price, id, is_active, category_id, featured);
create index products_by_name on products (name_folded, id, is_active, category_id, featured, price);
create index products_of_category on products (category_id, is_active, featured, price);
create index products_prices on products (id, price);
create index products_sold_out on products (id, is_active, category_id, featured, price) where stock = 0;

create virtual table product_search using fts5 (
    search_text, search_tags, content = 'products', content_rowid = 'id', tokenize = 'trigram case_sensitive 1'
);
-- The trigrams that occur: words that are shorter are found by those that begin with them.
create virtual table product_trigrams using fts5vocab (product_search, 'row');
create trigger products_search_insert after insert on products begin
    insert into product_search (rowid, search_text, search_tags) values (new.id, new.search_text, new.search_tags);
end;
create trigger products_search_delete after delete on products begin
    insert into product_search (product_search, rowid, search_text, search_tags)
    values ('delete', old.id, old.search_text, old.search_tags);
end;
create trigger products_search_update after update of search_text, is_active, featured, category_id on products
when old.search_text <> new.search_text or old.search_tags <> new.search_tags begin
    insert into product_search (product_search, rowid, search_text, search_tags)
    values ('delete', old.id, old.search_text, old.search_tags);
    insert into product_search (rowid, search_text, search_tags) values (new.id, new.search_text, new.search_tags);
end;

-- A product's level is the sum of its movements.
create table stock_movements (
    id integer primary key autoincrement,
    product_id integer not null references products (id) on delete cascade,
    kind text not null check (kind in ('initial', 'order', 'cancel', 'change', 'set')),
    change bigint not null,
    level bigint not null check (level >= 0),
    order_id bigint,
    created_at datetime not null
);
create index stock_movements_of_product on stock_movements (product_id, id);

create table carts (
    id integer primary key autoincrement,
    user_id integer not null unique references users (id) on delete cascade,
    version bigint not null default 0,
    updated_at datetime not null
);
create table cart_items (
    id integer primary key autoincrement,
    cart_id integer not null references carts (id) on delete cascade,
    product_id integer not null references products (id) on delete cascade,
    quantity bigint not null check (quantity > 0),
    unique (cart_id, product_id)
);
create index cart_items_of_product on cart_items (product_id);

create table orders (
    id integer primary key autoincrement,
    user_id integer not null references users (id),
    status text not null check (status in ('pending', 'shipped', 'delivered', 'cancelled')),
    total bigint not null,
    shipping_address text not null default '',
    phone text not null default '',
    notes text not null default '',
    created_at datetime not null,
    updated_at datetime not null
);
create index orders_of_user on orders (user_id, created_at, id);
create index orders_newest on orders (created_at, id);
create index orders_by_status on orders (status, created_at, id);
create index orders_by_total on orders (total, id);

-- `product_id` is no foreign key: an order keeps its own copy, and a deleted product must not be looked for here.
create table order_items (
    id integer primary key autoincrement,
    order_id integer not null references orders (id) on delete cascade,
    product_id bigint not null,
    product_name text not null,
    sku text not null,
    price bigint not null,
    quantity bigint not null check (quantity > 0)
);
create index order_items_of_order on order_items (order_id);

-- The steps after `pending`, which every order reached when it was created.
create table order_steps (
    order_id integer not null references orders (id) on delete cascade,
    status text not null,
    at datetime not null,
    primary key (order_id, status)
) without rowid;

-- The last number given to an event of this user, and how far the user has read.
create table inboxes (
    user_id integer primary key references users (id) on delete cascade,
    last_event_id bigint not null default 0,
    read_up_to bigint not null default 0
);
create table events (
    user_id integer not null references users (id) on delete cascade,
    id bigint not null,
    kind text not null check (kind in ('order_created', 'order_status_update')),
    order_id bigint not null,
    status text not null,
    previous_status text,
    total bigint not null,
    created_at datetime not null,
    primary key (user_id, id)
) without rowid;

-- The first answer to an order request with this key: the order, or why there is none (JSON).
create table idempotency_keys (
    user_id integer not null references users (id) on delete cascade,
    key text not null,
    fingerprint blob not null,
    order_id bigint,
    refusal text,
    created_at datetime not null,
    -- From then on the key is free.
    expires_at datetime not null,
    primary key (user_id, key)
) without rowid;
create index idempotency_keys_expiry on idempotency_keys (expires_at);

-- One row a committed batch of the ledger: whether a commit whose answer was lost took place is read here. Who reads takes
-- the id of a batch that is not there, so that it never can be; that row says so.
create table ledger_commits (
    id blob primary key not null,
    stands boolean not null default true,
    created_at datetime not null
) without rowid;
create index ledger_commits_age on ledger_commits (created_at);

-- What tells this shop from others that use the same Redis, and how often somebody wrote who could not tell the nodes of it
-- otherwise. One row, made when it is first needed.
create table shop_identity (
    only_one integer primary key check (only_one = 1),
    id text not null,
    untold_changes bigint not null default 0
);
