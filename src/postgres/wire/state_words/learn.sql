/* pgswivel */ -- What runs out of a client's sight: the name a client would use, the language if it is a function, and what
-- is run by it. Names are qualified and operators spelled out because search_path is the client's; no
-- backslash, because standard_conforming_strings is.
WITH RECURSIVE builtin (pattern) AS (
    -- Dependencies on what comes with the server are not recorded; stored expressions name it by OID.
    SELECT pg_catalog.concat(':funcid (', pg_catalog.string_agg(p.oid::pg_catalog.text, '|'), ') ')
    FROM pg_catalog.pg_proc p
    WHERE p.pronamespace OPERATOR(pg_catalog.=) 'pg_catalog'::pg_catalog.regnamespace::pg_catalog.oid
        AND p.proname OPERATOR(pg_catalog.=) ANY (ARRAY[
            'set_config', 'setseed', 'currval', 'lastval', 'pg_advisory_lock', 'pg_advisory_lock_shared', 'pg_try_advisory_lock',
            'pg_try_advisory_lock_shared'
        ]::pg_catalog.name[])
),
reference (classid, objid, body) AS (
    SELECT d.classid, d.objid, pg_catalog.concat(pg_catalog.quote_ident(p.proname), '(')
    FROM pg_catalog.pg_depend d
    JOIN pg_catalog.pg_proc p ON p.oid OPERATOR(pg_catalog.=) d.refobjid
    WHERE d.deptype OPERATOR(pg_catalog.=) 'n'
        AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass
    UNION
    SELECT d.classid, d.objid, pg_catalog.concat(pg_catalog.quote_ident(p.proname), '(')
    FROM pg_catalog.pg_depend d
    JOIN pg_catalog.pg_operator o ON o.oid OPERATOR(pg_catalog.=) d.refobjid
    JOIN pg_catalog.pg_proc p ON p.oid OPERATOR(pg_catalog.=) o.oprcode::pg_catalog.oid
    WHERE d.deptype OPERATOR(pg_catalog.=) 'n'
        AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_operator'::pg_catalog.regclass
    UNION
    SELECT d.classid, d.objid, pg_catalog.quote_ident(c.relname)
    FROM pg_catalog.pg_depend d
    JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) d.refobjid
    WHERE d.deptype OPERATOR(pg_catalog.=) 'n'
        AND d.refclassid OPERATOR(pg_catalog.=) 'pg_catalog.pg_class'::pg_catalog.regclass
        AND (d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_rewrite'::pg_catalog.regclass
            OR d.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass)
),
part (classid, objid, relation, body) AS (
    -- What belongs to a table or view and runs when that is used. The body is for what calls the server's
    -- own functions.
    SELECT 'pg_catalog.pg_rewrite'::pg_catalog.regclass, r.oid, r.ev_class,
        CASE WHEN r.ev_action::pg_catalog.text OPERATOR(pg_catalog.~) b.pattern
                OR r.ev_qual::pg_catalog.text OPERATOR(pg_catalog.~) b.pattern
            THEN pg_catalog.pg_get_ruledef(r.oid) END
    FROM pg_catalog.pg_rewrite r, builtin b
    WHERE r.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid
    UNION ALL
    SELECT 'pg_catalog.pg_attrdef'::pg_catalog.regclass, a.oid, a.adrelid,
        CASE WHEN a.adbin::pg_catalog.text OPERATOR(pg_catalog.~) b.pattern
            THEN pg_catalog.pg_get_expr(a.adbin, a.adrelid) END
    FROM pg_catalog.pg_attrdef a, builtin b
    UNION ALL
    SELECT 'pg_catalog.pg_constraint'::pg_catalog.regclass, k.oid, k.relation,
        CASE WHEN k.conbin::pg_catalog.text OPERATOR(pg_catalog.~) b.pattern
            THEN pg_catalog.pg_get_constraintdef(k.oid) END
    FROM builtin b, (
        SELECT oid, conbin, conrelid
        FROM pg_catalog.pg_constraint
        WHERE contype OPERATOR(pg_catalog.=) 'c' AND contypid OPERATOR(pg_catalog.=) 0::pg_catalog.oid
        UNION ALL
        SELECT d.oid, d.conbin, a.attrelid
        FROM pg_catalog.pg_constraint d
        JOIN pg_catalog.pg_attribute a ON a.atttypid OPERATOR(pg_catalog.=) d.contypid
        WHERE d.contype OPERATOR(pg_catalog.=) 'c' AND d.contypid OPERATOR(pg_catalog.<>) 0::pg_catalog.oid
    ) k (oid, conbin, relation)
    UNION ALL
    SELECT 'pg_catalog.pg_policy'::pg_catalog.regclass, p.oid, p.polrelid,
        CASE WHEN pg_catalog.concat(p.polqual::pg_catalog.text, p.polwithcheck::pg_catalog.text)
                OPERATOR(pg_catalog.~) b.pattern
            THEN pg_catalog.concat_ws(' ', pg_catalog.pg_get_expr(p.polqual, p.polrelid),
                pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid)) END
    FROM pg_catalog.pg_policy p, builtin b
    UNION ALL
    SELECT 'pg_catalog.pg_trigger'::pg_catalog.regclass, t.oid, t.tgrelid,
        CASE WHEN t.tgqual::pg_catalog.text OPERATOR(pg_catalog.~) b.pattern
            THEN pg_catalog.pg_get_triggerdef(t.oid) END
    FROM pg_catalog.pg_trigger t, builtin b
    WHERE NOT t.tgisinternal
    UNION ALL
    -- What is not immutable has no place in an index or a partition key, but a function may say that it is.
    SELECT 'pg_catalog.pg_class'::pg_catalog.regclass, i.indexrelid, i.indrelid, NULL
    FROM pg_catalog.pg_index i
    WHERE i.indexprs IS NOT NULL OR i.indpred IS NOT NULL
    UNION ALL
    SELECT 'pg_catalog.pg_class'::pg_catalog.regclass, k.partrelid, k.partrelid, NULL
    FROM pg_catalog.pg_partitioned_table k
    WHERE k.partexprs IS NOT NULL
),
relation (oid, body) AS (
    SELECT part.relation,
        pg_catalog.concat_ws(' ', pg_catalog.string_agg(DISTINCT reference.body, ' '),
            pg_catalog.string_agg(DISTINCT part.body, ' '))
    FROM part
    LEFT JOIN reference
        ON reference.classid OPERATOR(pg_catalog.=) part.classid::pg_catalog.oid
        AND reference.objid OPERATOR(pg_catalog.=) part.objid
    WHERE part.body IS NOT NULL OR reference.body IS NOT NULL
    GROUP BY part.relation
),
below (parent, child) AS (
    -- What is written to a table may go to its partitions.
    SELECT i.inhparent, i.inhrelid
    FROM pg_catalog.pg_inherits i
    JOIN relation ON relation.oid OPERATOR(pg_catalog.=) i.inhrelid
    UNION
    SELECT i.inhparent, i.inhrelid
    FROM pg_catalog.pg_inherits i
    JOIN below ON below.parent OPERATOR(pg_catalog.=) i.inhrelid
),
used_by_function (oid, body) AS (
    SELECT reference.objid, pg_catalog.string_agg(reference.body, ' ')
    FROM reference
    WHERE reference.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_proc'::pg_catalog.regclass::pg_catalog.oid
    GROUP BY reference.objid
),
definition (name, language, body) AS (
    SELECT p.proname::pg_catalog.text, l.lanname::pg_catalog.text,
        pg_catalog.concat(
            CASE
                WHEN p.prosqlbody IS NULL THEN p.prosrc
                WHEN p.prosqlbody::pg_catalog.text OPERATOR(pg_catalog.~) b.pattern
                    THEN pg_catalog.pg_get_function_sqlbody(p.oid)
            END,
            -- Set for the length of the call, and left behind empty.
            (SELECT pg_catalog.string_agg(pg_catalog.concat('; SET ', pg_catalog.split_part(c, '=', 1), ' = 1;'), '')
            FROM pg_catalog.unnest(p.proconfig) c
            WHERE pg_catalog.strpos(pg_catalog.split_part(c, '=', 1), '.') OPERATOR(pg_catalog.>) 0),
            CASE WHEN p.proargdefaults::pg_catalog.text OPERATOR(pg_catalog.~) b.pattern
                THEN pg_catalog.concat('; ', pg_catalog.pg_get_function_arguments(p.oid)) END,
            ' ', u.body)
    FROM builtin b, pg_catalog.pg_proc p
    JOIN pg_catalog.pg_language l ON l.oid OPERATOR(pg_catalog.=) p.prolang
    LEFT JOIN used_by_function u ON u.oid OPERATOR(pg_catalog.=) p.oid
    WHERE p.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid
        AND p.prokind OPERATOR(pg_catalog.<>) 'a'
        AND l.lanname OPERATOR(pg_catalog.<>) 'internal'
        AND l.lanname OPERATOR(pg_catalog.<>) 'c'
    UNION ALL
    SELECT p.proname::pg_catalog.text, 'sql', u.body
    FROM pg_catalog.pg_proc p
    JOIN used_by_function u ON u.oid OPERATOR(pg_catalog.=) p.oid
    WHERE p.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid
        AND p.prokind OPERATOR(pg_catalog.=) 'a'
    UNION ALL
    -- A value that is cast to a domain is checked.
    SELECT t.typname::pg_catalog.text, '',
        pg_catalog.concat_ws(' ', r.body,
            CASE WHEN k.conbin::pg_catalog.text OPERATOR(pg_catalog.~) b.pattern
                THEN pg_catalog.pg_get_constraintdef(k.oid) END)
    FROM builtin b, pg_catalog.pg_constraint k
    JOIN pg_catalog.pg_type t ON t.oid OPERATOR(pg_catalog.=) k.contypid
    LEFT JOIN reference r
        ON r.classid OPERATOR(pg_catalog.=) 'pg_catalog.pg_constraint'::pg_catalog.regclass::pg_catalog.oid
        AND r.objid OPERATOR(pg_catalog.=) k.oid
    WHERE k.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid
    UNION ALL
    SELECT c.relname::pg_catalog.text, '', relation.body
    FROM relation
    JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) relation.oid
    UNION ALL
    SELECT parent.relname::pg_catalog.text, '', pg_catalog.quote_ident(child.relname)
    FROM below
    JOIN pg_catalog.pg_class parent ON parent.oid OPERATOR(pg_catalog.=) below.parent
    JOIN pg_catalog.pg_class child ON child.oid OPERATOR(pg_catalog.=) below.child
    UNION ALL
    -- Most of what fires an event trigger has a tag that says so.
    SELECT w.word, 'sql', pg_catalog.concat(pg_catalog.quote_ident(p.proname), '(')
    FROM pg_catalog.pg_event_trigger e
    JOIN pg_catalog.pg_proc p ON p.oid OPERATOR(pg_catalog.=) e.evtfoid,
    pg_catalog.unnest(ARRAY['create', 'refresh', 'reindex']::pg_catalog.text[]) w (word)
    WHERE e.evtevent OPERATOR(pg_catalog.<>) 'login'::pg_catalog.name
    UNION ALL
    -- Deleting here deletes or updates there.
    SELECT parent.relname::pg_catalog.text, '', pg_catalog.quote_ident(child.relname)
    FROM pg_catalog.pg_constraint k
    JOIN pg_catalog.pg_class parent ON parent.oid OPERATOR(pg_catalog.=) k.confrelid
    JOIN pg_catalog.pg_class child ON child.oid OPERATOR(pg_catalog.=) k.conrelid
    WHERE k.contype OPERATOR(pg_catalog.=) 'f'
        AND (k.confdeltype OPERATOR(pg_catalog.=) ANY (ARRAY['c', 'n', 'd']::pg_catalog."char"[])
            OR k.confupdtype OPERATOR(pg_catalog.=) ANY (ARRAY['c', 'n', 'd']::pg_catalog."char"[]))
),
sized AS (
    SELECT name, language, body,
        pg_catalog.octet_length(body) AS size,
        pg_catalog.sum(pg_catalog.octet_length(body)) OVER (
            ORDER BY pg_catalog.octet_length(body), name ROWS UNBOUNDED PRECEDING
        ) AS total
    FROM definition
    WHERE body IS NOT NULL
)
SELECT name, language,
    CASE WHEN size OPERATOR(pg_catalog.<=) 262144 AND total OPERATOR(pg_catalog.<=) 16777216 THEN body END
FROM sized
LIMIT 200000
