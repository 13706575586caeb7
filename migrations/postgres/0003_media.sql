-- The files of uploaded images. The row is there before its file, and goes after it, so that a file without a row that
-- names it is found by its state, whatever a crash or a full disk left: `pending` until a product, category or user names
-- it, `used` as long as one does, `dropped` from then on. Triggers hold that, in the transaction of the change, whoever
-- makes it. A name is used once and never again.
create table media_files (
    name text collate "C" primary key,
    state text not null default 'pending' check (state in ('pending', 'used', 'dropped')),
    created_at timestamptz not null
);
create index media_files_unused on media_files (state, created_at) where state <> 'used';

-- Its argument is the column that names the file.
create function follow_media_file() returns trigger language plpgsql as $$
declare
    old_name text := to_jsonb(old) ->> tg_argv[0];
    new_name text := to_jsonb(new) ->> tg_argv[0];
begin
    update media_files set state = 'dropped' where name = old_name;
    if new_name is not null then
        update media_files set state = 'used' where name = new_name and state = 'pending';
        if not found then
            raise exception 'no such file waits to be used';
        end if;
    end if;
    return null;
end $$;

create trigger products_media_insert after insert on products for each row
    when (new.image is not null) execute function follow_media_file('image');
create trigger products_media_update after update of image on products for each row
    when (old.image is distinct from new.image) execute function follow_media_file('image');
create trigger products_media_delete after delete on products for each row
    when (old.image is not null) execute function follow_media_file('image');

create trigger categories_media_insert after insert on categories for each row
    when (new.image is not null) execute function follow_media_file('image');
create trigger categories_media_update after update of image on categories for each row
    when (old.image is distinct from new.image) execute function follow_media_file('image');
create trigger categories_media_delete after delete on categories for each row
    when (old.image is not null) execute function follow_media_file('image');

create trigger users_media_insert after insert on users for each row
    when (new.avatar is not null) execute function follow_media_file('avatar');
create trigger users_media_update after update of avatar on users for each row
    when (old.avatar is distinct from new.avatar) execute function follow_media_file('avatar');
create trigger users_media_delete after delete on users for each row
    when (old.avatar is not null) execute function follow_media_file('avatar');
