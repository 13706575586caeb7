-- Logins of the administration site. Of the cookie's token only the digest is kept: who reads this table cannot sign in.
create table admin_sessions (
    token_digest blob primary key not null,
    user_id integer not null references users (id) on delete cascade,
    begun_at datetime not null,
    -- Written once a minute at most.
    seen_at datetime not null
) without rowid;
create index admin_sessions_of_user on admin_sessions (user_id);
create index admin_sessions_age on admin_sessions (seen_at);

-- What was changed on the administration site. Nothing here is a foreign key: it outlives what it tells of.
create table admin_changes (
    id integer primary key autoincrement,
    admin_id bigint not null,
    admin_email text not null,
    at datetime not null,
    kind text not null check (kind in ('product', 'category', 'order', 'user')),
    object_id bigint not null,
    -- The object's name at that time.
    label text not null,
    action text not null check (action in ('created', 'changed', 'deleted')),
    -- JSON: the fields that changed, each with the value before and the value after.
    fields text not null
);
create index admin_changes_of_object on admin_changes (kind, object_id, id);
create index admin_changes_of_admin on admin_changes (admin_id, id);
