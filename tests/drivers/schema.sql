create type mood as enum ('sad', 'ok', 'happy');
create type pair as (a int, b text);
create domain positive as int check (value > 0);

create table parent (id int primary key);
create table child (
    id int primary key,
    parent int constraint child_has_a_parent references parent,
    name text not null unique,
    age int constraint age_is_sane check (age < 200)
);
create table copied (id int, name text, bytes bytea);
insert into parent select generate_series(1, 3);

create function warn(times int) returns int language plpgsql as $$
begin
    for i in 1..times loop
        raise notice 'notice % of %', i, times
            using detail = 'the detail', hint = 'the hint', errcode = '01234';
    end loop;
    raise warning 'and a warning';
    return times;
end $$;

create function refuse() returns int language plpgsql as $$
begin
    raise exception 'refused: %', 'zażółć'
        using errcode = 'P1234', detail = 'the detail', hint = 'the hint',
              schema = 'a schema', table = 'a table', column = 'a column',
              datatype = 'a type', constraint = 'a constraint';
end $$;
