-- The files of uploaded images. The row is there before its file, and goes after it, so that a file without a row that
-- names it is found by its state, whatever a crash or a full disk left: `pending` until a product, category or user names
-- it, `used` as long as one does, `dropped` from then on. Triggers hold that, in the transaction of the change, whoever
-- makes it. A name is used once and never again.
create table media_files (
    name text primary key not null,
    state text not null default 'pending' check (state in ('pending', 'used', 'dropped')),
    created_at datetime not null
) without rowid;
create index media_files_unused on media_files (state, created_at) where state <> 'used';

create trigger products_media_insert after insert on products when new.image is not null begin
    select raise(abort, 'no such file waits to be used') where new.image is not null
        and not exists (select 1 from media_files where name = new.image and state = 'pending');
    update media_files set state = 'used' where name = new.image;
end;
create trigger products_media_update after update of image on products when old.image is not new.image begin
    update media_files set state = 'dropped' where name = old.image;
    select raise(abort, 'no such file waits to be used') where new.image is not null
        and not exists (select 1 from media_files where name = new.image and state = 'pending');
    update media_files set state = 'used' where name = new.image;
end;
create trigger products_media_delete after delete on products when old.image is not null begin
    update media_files set state = 'dropped' where name = old.image;
end;

create trigger categories_media_insert after insert on categories when new.image is not null begin
    select raise(abort, 'no such file waits to be used') where new.image is not null
        and not exists (select 1 from media_files where name = new.image and state = 'pending');
    update media_files set state = 'used' where name = new.image;
end;
create trigger categories_media_update after update of image on categories when old.image is not new.image begin
    update media_files set state = 'dropped' where name = old.image;
    select raise(abort, 'no such file waits to be used') where new.image is not null
        and not exists (select 1 from media_files where name = new.image and state = 'pending');
    update media_files set state = 'used' where name = new.image;
end;
create trigger categories_media_delete after delete on categories when old.image is not null begin
    update media_files set state = 'dropped' where name = old.image;
end;

create trigger users_media_insert after insert on users when new.avatar is not null begin
    select raise(abort, 'no such file waits to be used') where new.avatar is not null
        and not exists (select 1 from media_files where name = new.avatar and state = 'pending');
    update media_files set state = 'used' where name = new.avatar;
end;
create trigger users_media_update after update of avatar on users when old.avatar is not new.avatar begin
    update media_files set state = 'dropped' where name = old.avatar;
    select raise(abort, 'no such file waits to be used') where new.avatar is not null
        and not exists (select 1 from media_files where name = new.avatar and state = 'pending');
    update media_files set state = 'used' where name = new.avatar;
end;
create trigger users_media_delete after delete on users when old.avatar is not null begin
    update media_files set state = 'dropped' where name = old.avatar;
end;
