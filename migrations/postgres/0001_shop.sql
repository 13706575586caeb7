-- Money is whole cents. Folded text and SKUs are compared and sorted by code point, as on SQLite, whatever order the
-- database was made with.

create table users (
    id bigint generated always as identity primary key,
    email text not null,
    email_folded text collate "C" not null unique,
    username text not null,
    username_folded text collate "C" not null unique,
    password_hash text not null,
    first_name text not null default '',
    last_name text not null default '',
    phone text not null default '',
    address text not null default '',
    date_of_birth date,
    is_admin boolean not null default false,
    is_active boolean not null default true,
    date_joined timestamptz not null,
    last_login timestamptz,
    bio text not null default '',
    avatar text,
    preferences text not null default '{}'
);
create index users_admins on users (id) where is_admin;

-- One row a login. Of the refresh tokens of a family only the one named here is alive.
create table refresh_families (
    id uuid primary key,
    user_id bigint not null references users (id) on delete cascade,
    current_token uuid not null,
    revoked_at timestamptz,
    expires_at timestamptz not null
);
create index refresh_families_user on refresh_families (user_id);
create index refresh_families_expiry on refresh_families (expires_at);

create table categories (
    id bigint generated always as identity primary key,
    name text not null,
    name_folded text collate "C" not null unique,
    description text not null default '',
    image text,
    is_active boolean not null default true,
    created_at timestamptz not null,
    updated_at timestamptz not null
);

create table products (
    id bigint generated always as identity primary key,
    name text not null,
    name_folded text collate "C" not null,
    price bigint not null check (price between 0 and 9999999999),
    stock bigint not null default 0 check (stock between 0 and 2147483647),
    version bigint not null default 1,
    category_id bigint not null references categories (id),
    sku text collate "C" not null unique,
    featured boolean not null default false,
    is_active boolean not null default true,
    image text,
    created_at timestamptz not null,
    updated_at timestamptz not null,
    -- Folded name and description, each with a line feed, and one more, as on SQLite.
    search_text text not null,
    description text not null default ''
);
-- One for each order of a list, with all that lists are filtered by. Stock is not among it, so that an order's update
-- of a row leaves every index alone.
create index products_newest on products (created_at, id) include (is_active, category_id, featured, price);
create index products_by_price on products (price, id) include (is_active, category_id, featured);
create index products_by_name on products (name_folded, id) include (is_active, category_id, featured, price);
create index products_of_category on products (category_id, is_active, featured, price);

create extension if not exists pg_trgm;
create index product_search on products using gin (search_text gin_trgm_ops);

-- A product's level is the sum of its movements.
create table stock_movements (
    id bigint generated always as identity primary key,
    product_id bigint not null references products (id) on delete cascade,
    kind text not null check (kind in ('initial', 'order', 'cancel', 'change', 'set')),
    change bigint not null,
    level bigint not null check (level >= 0),
    order_id bigint,
    created_at timestamptz not null
);
create index stock_movements_of_product on stock_movements (product_id, id);

create table carts (
    id bigint generated always as identity primary key,
    user_id bigint not null unique references users (id) on delete cascade,
    version bigint not null default 0,
    updated_at timestamptz not null
);
create table cart_items (
    id bigint generated always as identity primary key,
    cart_id bigint not null references carts (id) on delete cascade,
    product_id bigint not null references products (id) on delete cascade,
    quantity bigint not null check (quantity > 0),
    unique (cart_id, product_id)
);
create index cart_items_of_product on cart_items (product_id);

create table orders (
    id bigint generated always as identity primary key,
    user_id bigint not null references users (id),
    status text not null check (status in ('pending', 'shipped', 'delivered', 'cancelled')),
    total bigint not null,
    shipping_address text not null default '',
    phone text not null default '',
    notes text not null default '',
    created_at timestamptz not null,
    updated_at timestamptz not null
);
create index orders_of_user on orders (user_id, created_at, id);
create index orders_newest on orders (created_at, id);
create index orders_by_status on orders (status, created_at, id);
create index orders_by_total on orders (total, id);

-- `product_id` is no foreign key: an order keeps its own copy, and a deleted product must not be looked for here.
create table order_items (
    id bigint generated always as identity primary key,
    order_id bigint not null references orders (id) on delete cascade,
    product_id bigint not null,
    product_name text not null,
    sku text not null,
    price bigint not null,
    quantity bigint not null check (quantity > 0)
);
create index order_items_of_order on order_items (order_id);

-- The steps after `pending`, which every order reached when it was created.
create table order_steps (
    order_id bigint not null references orders (id) on delete cascade,
    status text not null,
    at timestamptz not null,
    primary key (order_id, status)
);

-- The last number given to an event of this user, and how far the user has read.
create table inboxes (
    user_id bigint primary key references users (id) on delete cascade,
    last_event_id bigint not null default 0,
    read_up_to bigint not null default 0
);
create table events (
    user_id bigint not null references users (id) on delete cascade,
    id bigint not null,
    kind text not null check (kind in ('order_created', 'order_status_update')),
    order_id bigint not null,
    status text not null,
    previous_status text,
    total bigint not null,
    created_at timestamptz not null,
    primary key (user_id, id)
);

-- The first answer to an order request with this key: the order, or why there is none (JSON).
create table idempotency_keys (
    user_id bigint not null references users (id) on delete cascade,
    key text not null,
    fingerprint bytea not null,
    order_id bigint,
    refusal text,
    created_at timestamptz not null,
    -- From then on the key is free.
    expires_at timestamptz not null,
    primary key (user_id, key)
);
create index idempotency_keys_expiry on idempotency_keys (expires_at);

-- One row a committed batch of the ledger: whether a commit whose answer was lost took place is read here.
create table ledger_commits (
    id uuid primary key,
    created_at timestamptz not null
);
create index ledger_commits_age on ledger_commits (created_at);
