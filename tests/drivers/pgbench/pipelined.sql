\set n random(1, 1000)
\startpipeline
insert into history values (:client_id, :n);
update counters set value = value + :n where id = :client_id;
select value from counters where id = :client_id;
\endpipeline
