-- Access tokens say the generation of logins that they belong to; those of an older one than the account's are void. It is
-- raised when an admin sets somebody's password. Tokens that say none belong to the first.
alter table users add column login_generation bigint not null default 0;
