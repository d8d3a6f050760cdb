-- Alternating users: each gets a new password while the other one is in use. What they make belongs to neither of
-- them, or a user could not be replaced without leaving its tables behind.
CREATE ROLE orders_owner;
CREATE ROLE orders_a LOGIN IN ROLE orders_owner;
CREATE ROLE orders_b LOGIN IN ROLE orders_owner;

CREATE TABLE orders (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    placed timestamptz NOT NULL DEFAULT now(),
    amount integer NOT NULL
);
ALTER TABLE orders OWNER TO orders_owner;
