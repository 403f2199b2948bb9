"""Compare two PostgreSQL servers fact by fact, independently of tklb (nothing of it is imported here).

Takes boxes whose servers (15 or newer) are up, gives plain facts (they survive JSON) and mismatches. Asks through psql
as the administrator and only reads, but for a moment in which a database that takes no connections takes ours.

    facts = record(a)
    assert compare(facts, record(b)) == []

Everything goes by name; only large objects have a number for a name. Lists that have no order are sorted. What no
logical copy can carry is no fact: oids, dropped columns, statistics, versions of the system's collations, template0's
content, what a sequence has logged ahead, and the definitions of what an extension brings (its version counts).
Sources: PostgreSQL 15 to 17 documentation, chapters "System Catalogs" and "Privileges"; COPY, "Text Format".
"""

# ruff: noqa: E501 - a fact a line

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from tests.lab.box import Box
from tests.lab.postgresql import PSQL

Fact = dict[str, Any]
Catalogue = dict[str, Fact]
Facts = dict[str, Any]
Answer = list[list[str | None]]

# What a database or role sets for its sessions must not decide what we see; these beat it.
SETTINGS = {
    "search_path": "",
    "role": "none",
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "row_security": "on",
    "standard_conforming_strings": "on",
    "extra_float_digits": "3",
    "datestyle": "ISO,YMD",
    "intervalstyle": "postgres",
    "bytea_output": "hex",
    "timezone": "UTC",
    "lc_monetary": "C",
    "xmlbinary": "base64",
    "quote_all_identifiers": "off",
    "client_min_messages": "error",
    "default_transaction_isolation": "repeatable\\ read",
    "jit": "off",
}
# 15.20 and 17.12 note the position in the log at which a column was made; pg_dump does not tell of it either.
SERVERS_OWN = "^pg_attver="
ESCAPES = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}


def role(number: str) -> str:
    return f"pg_get_userbyid({number})"


def entries(exploded: str) -> str:
    """An access list as a JSON list of `GRANTEE: PRIVILEGE[*] by GRANTOR`."""
    return f"""coalesce((SELECT json_agg(CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE 'role ' || {role("x.grantee")} END || ': '
        || x.privilege_type || CASE WHEN x.is_grantable THEN '*' ELSE '' END || ' by ' || {role("x.grantor")})
        FROM {exploded} x), '[]')"""


def acl(column: str, kind: str, owner: str) -> str:
    """Two facts: who owns it and who may do what; no list at all means the default one."""
    rights = entries(f"aclexplode(coalesce({column}, acldefault({kind}, {owner})))")
    return f'{role(owner)} AS owner, {rights} AS "acl{{}}"'


def ours(catalogue: str, number: str) -> str:
    """Neither the system's own nor an extension's."""
    return f"""{number} >= 16384 AND NOT EXISTS (SELECT FROM pg_depend e
        WHERE e.classid = '{catalogue}'::regclass AND e.objid = {number} AND e.deptype = 'e')"""


def relation(number: str) -> str:
    return f"(SELECT format('%I.%I', rn.nspname, rc.relname) FROM pg_class rc JOIN pg_namespace rn ON rn.oid = rc.relnamespace WHERE rc.oid = {number})"


def schema(number: str) -> str:
    return f"(SELECT nspname FROM pg_namespace sn WHERE sn.oid = {number})"


def listed(query: str) -> str:
    return f"coalesce((SELECT json_agg(listed) FROM ({query}) AS q (listed)), '[]')"


def unnested(array: str) -> str:
    return listed(f"SELECT unnest({array}::text[])")


# Each query gives the key first. A name ending in {} is a JSON list without order, in [] one with order.
CLUSTER = {
    "databases": f"""SELECT datname, {acl("datacl", "'d'", "datdba")}, pg_encoding_to_char(encoding) AS encoding,
        datcollate AS collate, datctype AS ctype, datlocprovider AS provider,
        coalesce(to_jsonb(d) ->> 'daticulocale', to_jsonb(d) ->> 'datlocale') AS locale,
        to_jsonb(d) ->> 'daticurules' AS rules, datistemplate AS template,
        datallowconn AS connectable, datconnlimit AS "limit", spcname AS tablespace,
        shobj_description(d.oid, 'pg_database') AS comment
        FROM pg_database d JOIN pg_tablespace t ON t.oid = dattablespace""",
    "roles": """SELECT rolname, rolsuper AS super, rolinherit AS inherit, rolcreaterole AS createrole,
        rolcreatedb AS createdb, rolcanlogin AS login, rolreplication AS replication, rolbypassrls AS bypassrls,
        rolconnlimit AS "limit", rolpassword AS password, rolvaliduntil AS until,
        shobj_description(oid, 'pg_authid') AS comment FROM pg_authid WHERE rolname !~ '^pg_'""",
    "memberships": f"""SELECT format('%I in %I', {role("member")}, {role("roleid")}), bool_or(admin_option) AS admin
        FROM pg_auth_members WHERE member >= 16384 GROUP BY member, roleid""",
    "membership grants": f"""SELECT format('%I in %I by %I', {role("member")}, {role("roleid")}, {role("grantor")}),
        admin_option AS admin, to_jsonb(m) ->> 'inherit_option' AS inherit, to_jsonb(m) ->> 'set_option' AS set
        FROM pg_auth_members m WHERE member >= 16384""",
    "settings": f"""SELECT format('role %s in %s', CASE setrole WHEN 0 THEN 'ALL' ELSE quote_ident({role("setrole")}) END,
        coalesce(quote_ident(datname), 'ALL')), {unnested("setconfig")} AS "settings{{}}"
        FROM pg_db_role_setting LEFT JOIN pg_database d ON d.oid = setdatabase""",
    "parameters": f"""SELECT parname, {entries("aclexplode(paracl)")} AS "acl{{}}" FROM pg_parameter_acl""",
    "tablespaces": f"""SELECT spcname, {acl("spcacl", "'t'", "spcowner")}, {unnested("spcoptions")} AS "options{{}}",
        pg_tablespace_location(oid) AS location, shobj_description(oid, 'pg_tablespace') AS comment FROM pg_tablespace""",
    "written by ALTER SYSTEM": """SELECT name, setting FROM pg_file_settings WHERE sourcefile ~ '/postgresql\\.auto\\.conf$'""",
}

OF_RELATION = "JOIN pg_class c ON c.oid = {} JOIN pg_namespace n ON n.oid = c.relnamespace"
RELATION_KIND = "(CASE relkind WHEN 'S' THEN 's' ELSE 'r' END)::\"char\""
DATABASE = {
    "schemas": f"""SELECT nspname, {acl("nspacl", "'n'", "nspowner")} FROM pg_namespace n
        WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'""",
    "relations": f"""SELECT {relation("c.oid")}, relkind AS kind, relpersistence AS persistence,
        {acl("relacl", RELATION_KIND, "relowner")},
        {unnested("reloptions")} AS "options{{}}",
        {unnested("(SELECT t.reloptions FROM pg_class t WHERE t.oid = c.reltoastrelid)")} AS "toast options{{}}",
        (SELECT amname FROM pg_am a WHERE a.oid = relam) AS method,
        (SELECT spcname FROM pg_tablespace s WHERE s.oid = reltablespace) AS tablespace, relreplident AS "replica identity",
        relrowsecurity AS "row security", relforcerowsecurity AS "forced row security", relispopulated AS populated,
        pg_get_expr(relpartbound, c.oid) AS "partition of", pg_get_partkeydef(c.oid) AS "partition by",
        {listed(f"SELECT {relation('inhparent')} FROM pg_inherits WHERE inhrelid = c.oid ORDER BY inhseqno")} AS "parents[]",
        nullif(reloftype, 0)::regtype AS "of type",
        CASE WHEN relkind IN ('v', 'm') THEN pg_get_viewdef(c.oid) END AS definition
        FROM pg_class c WHERE {ours("pg_class", "c.oid")} AND {schema("relnamespace")} !~ '^pg_(toast|temp)'""",
    "columns": f"""SELECT {relation("c.oid")} || ' ' || quote_ident(attname),
        row_number() OVER (PARTITION BY c.oid ORDER BY attnum) AS position, format_type(atttypid, atttypmod) AS type,
        attnotnull AS "not null", pg_get_expr(adbin, adrelid) AS "default", attidentity AS identity, attgenerated AS generated,
        attcollation::regcollation AS collation, attstorage AS storage, attcompression AS compression,
        nullif(attstattarget, -1) AS statistics, {listed(f"SELECT o FROM unnest(attoptions) o WHERE o !~ '{SERVERS_OWN}'")} AS "options{{}}",
        {unnested("attfdwoptions")} AS "foreign options{{}}", attislocal AS local, attinhcount AS inherited,
        {entries("aclexplode(attacl)")} AS "acl{{}}"
        FROM pg_attribute a {OF_RELATION.format("attrelid")} LEFT JOIN pg_attrdef d ON adrelid = attrelid AND adnum = attnum
        WHERE attnum > 0 AND NOT attisdropped AND relkind <> 'S' AND {ours("pg_class", "c.oid")} AND nspname !~ '^pg_toast'""",
    "constraints": f"""SELECT coalesce({relation("conrelid")}, contypid::regtype::text) || ' ' || quote_ident(conname),
        contype AS kind, pg_get_constraintdef(o.oid) AS definition, convalidated AS valid, condeferrable AS deferrable,
        condeferred AS deferred, conislocal AS local, coninhcount AS inherited, connoinherit AS "not inherited",
        {relation("conindid")} AS index, (SELECT {relation("p.conrelid")} || p.conname FROM pg_constraint p WHERE p.oid = o.conparentid) AS parent
        FROM pg_constraint o WHERE {ours("pg_constraint", "o.oid")} AND contype NOT IN ('t', 'n')
        AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.deptype = 'e' AND (e.classid, e.objid) IN (('pg_class'::regclass, conrelid), ('pg_type'::regclass, contypid)))""",
    "indexes": f"""SELECT {relation("indexrelid")}, {relation("indrelid")} AS "table", pg_get_indexdef(indexrelid) AS definition,
        indisprimary AS "primary", indisclustered AS clustered, indisreplident AS "replica identity", indisvalid AS valid,
        indimmediate AS immediate, {relation("(SELECT inhparent FROM pg_inherits WHERE inhrelid = indexrelid)")} AS parent
        FROM pg_index {OF_RELATION.format("indexrelid")} WHERE {ours("pg_class", "indrelid")} AND nspname !~ '^pg_toast'""",
    "triggers": f"""SELECT {relation("tgrelid")} || ' ' || quote_ident(tgname), pg_get_triggerdef(t.oid) AS definition, tgenabled AS enabled,
        tgparentid <> 0 AS "of the parent" FROM pg_trigger t WHERE NOT tgisinternal AND {ours("pg_trigger", "t.oid")}""",
    "rules": f"""SELECT {relation("ev_class")} || ' ' || quote_ident(rulename), pg_get_ruledef(r.oid) AS definition, ev_enabled AS enabled
        FROM pg_rewrite r WHERE rulename <> '_RETURN' AND {ours("pg_rewrite", "r.oid")}""",
    "policies": f"""SELECT {relation("polrelid")} || ' ' || quote_ident(polname), polcmd AS command, polpermissive AS permissive,
        {listed(f"SELECT CASE r WHEN 0 THEN 'PUBLIC' ELSE 'role ' || {role('r')} END FROM unnest(polroles) r")} AS "roles{{}}",
        pg_get_expr(polqual, polrelid) AS using, pg_get_expr(polwithcheck, polrelid) AS checking FROM pg_policy""",
    "functions": f"""SELECT p.oid::regprocedure, {acl("proacl", "'f'", "proowner")}, prokind AS kind,
        CASE WHEN prokind <> 'a' THEN pg_get_functiondef(p.oid) END AS definition, format_type(prorettype, NULL) AS returns,
        pg_get_function_arguments(p.oid) AS arguments, proparallel AS parallel
        FROM pg_proc p WHERE {ours("pg_proc", "p.oid")}""",
    "aggregates": f"""SELECT p.oid::regprocedure, to_jsonb(a) - 'aggfnoid' - 'aggtranstype' - 'aggmtranstype' - 'aggsortop' AS "parts[]",
        format_type(aggtranstype, NULL) AS state, format_type(aggmtranstype, NULL) AS "moving state", aggsortop::regoperator AS sort
        FROM pg_aggregate a JOIN pg_proc p ON p.oid = aggfnoid WHERE {ours("pg_proc", "p.oid")}""",
    "types": f"""SELECT t.oid::regtype, {acl("typacl", "'T'", "typowner")}, typtype AS kind, typlen AS length, typbyval AS "by value",
        typalign AS align, typstorage AS storage, typdelim AS delimiter, typcategory AS category, typispreferred AS preferred,
        typdefault AS "default", typnotnull AS "not null", typcollation::regcollation AS collation, format_type(typbasetype, typtypmod) AS base,
        typinput AS input, typoutput AS output, typreceive AS receive, typsend AS send, typmodin AS modin, typmodout AS modout,
        typanalyze AS analyze, typsubscript AS subscript, typisdefined AS defined,
        {listed("SELECT enumlabel FROM pg_enum WHERE enumtypid = t.oid ORDER BY enumsortorder")} AS "labels[]",
        (SELECT ARRAY[format_type(rngsubtype, NULL), rngcollation::regcollation::text, opcname, rngcanonical::text, rngsubdiff::text, rngmultitypid::regtype::text]
        FROM pg_range JOIN pg_opclass o ON o.oid = rngsubopc WHERE rngtypid = t.oid)::text AS range
        FROM pg_type t WHERE {ours("pg_type", "t.oid")} AND (typrelid = 0 OR EXISTS (SELECT FROM pg_class c WHERE c.oid = typrelid AND relkind = 'c'))
        AND NOT EXISTS (SELECT FROM pg_type e WHERE e.typarray = t.oid)""",
    "operators": f"""SELECT o.oid::regoperator, {role("oprowner")} AS owner, oprcode AS function, nullif(oprcom, 0)::regoperator AS commutator,
        nullif(oprnegate, 0)::regoperator AS negator, oprrest AS restrict, oprjoin AS join, oprcanmerge AS merges, oprcanhash AS hashes,
        format_type(oprresult, NULL) AS result FROM pg_operator o WHERE {ours("pg_operator", "o.oid")}""",
    "operator classes": f"""SELECT format('%I.%I using %I', {schema("opcnamespace")}, opcname, amname), {role("opcowner")} AS owner,
        (SELECT {schema("opfnamespace")} || '.' || opfname FROM pg_opfamily f WHERE f.oid = opcfamily) AS family,
        format_type(opcintype, NULL) AS type, opcdefault AS "default", format_type(opckeytype, NULL) AS key
        FROM pg_opclass o JOIN pg_am a ON a.oid = opcmethod WHERE {ours("pg_opclass", "o.oid")}""",
    "operator families": f"""SELECT format('%I.%I using %I', {schema("opfnamespace")}, opfname, amname), {role("opfowner")} AS owner,
        {listed("SELECT format('%s %s %s %s', amopstrategy, amopopr::regoperator, amoppurpose, amopsortfamily = 0) FROM pg_amop WHERE amopfamily = f.oid")} AS "operators{{}}",
        {listed("SELECT format('%s %s', amprocnum, amproc::regprocedure) FROM pg_amproc WHERE amprocfamily = f.oid")} AS "functions{{}}"
        FROM pg_opfamily f JOIN pg_am a ON a.oid = opfmethod WHERE {ours("pg_opfamily", "f.oid")}""",
    "casts": f"""SELECT format('%s to %s', format_type(castsource, NULL), format_type(casttarget, NULL)), nullif(castfunc, 0)::regprocedure AS function,
        castcontext AS context, castmethod AS method FROM pg_cast c WHERE {ours("pg_cast", "c.oid")}""",
    "transforms": f"""SELECT format('%s in %I', format_type(trftype, NULL), lanname), trffromsql AS "from", trftosql AS "to"
        FROM pg_transform t JOIN pg_language l ON l.oid = trflang WHERE {ours("pg_transform", "t.oid")}""",
    "collations": f"""SELECT format('%I.%I', {schema("collnamespace")}, collname), {role("collowner")} AS owner, collprovider AS provider,
        collisdeterministic AS deterministic, collencoding AS encoding, collcollate AS collate, collctype AS ctype,
        coalesce(to_jsonb(c) ->> 'colliculocale', to_jsonb(c) ->> 'colllocale') AS locale, to_jsonb(c) ->> 'collicurules' AS rules
        FROM pg_collation c WHERE {ours("pg_collation", "c.oid")}""",
    "conversions": f"""SELECT format('%I.%I', {schema("connamespace")}, conname), {role("conowner")} AS owner, pg_encoding_to_char(conforencoding) AS "from",
        pg_encoding_to_char(contoencoding) AS "to", conproc AS function, condefault AS "default" FROM pg_conversion c WHERE {ours("pg_conversion", "c.oid")}""",
    "text search configurations": f"""SELECT format('%I.%I', {schema("cfgnamespace")}, cfgname), {
        role("cfgowner")
    } AS owner,
        (SELECT prsname FROM pg_ts_parser p WHERE p.oid = cfgparser) AS parser, {
        listed(
            "SELECT format('%s %s %s', alias, mapseqno, mapdict::regdictionary)"
            " FROM pg_ts_config_map m JOIN ts_token_type(cfgparser) k ON k.tokid = maptokentype WHERE mapcfg = c.oid"
        )
    } AS "map{{}}"
        FROM pg_ts_config c WHERE {ours("pg_ts_config", "c.oid")}""",
    "text search dictionaries": f"""SELECT d.oid::regdictionary, {role("dictowner")} AS owner, dictinitoption AS options,
        (SELECT tmplname FROM pg_ts_template t WHERE t.oid = dicttemplate) AS template FROM pg_ts_dict d WHERE {ours("pg_ts_dict", "d.oid")}""",
    "text search parsers": f"""SELECT format('%I.%I', {schema("prsnamespace")}, prsname), prsstart AS start, prstoken AS token, prsend AS "end",
        prsheadline AS headline, prslextype AS types FROM pg_ts_parser p WHERE {ours("pg_ts_parser", "p.oid")}""",
    "text search templates": f"""SELECT format('%I.%I', {schema("tmplnamespace")}, tmplname), tmplinit AS init, tmpllexize AS lexize
        FROM pg_ts_template t WHERE {ours("pg_ts_template", "t.oid")}""",
    "extensions": f"""SELECT extname, {role("extowner")} AS owner, {schema("extnamespace")} AS schema, extversion AS version, extrelocatable AS relocatable,
        {listed(f"SELECT {relation('t')} FROM unnest(extconfig) t")} AS "configuration{{}}", {unnested("extcondition")} AS "conditions{{}}" FROM pg_extension""",
    "languages": f"""SELECT lanname, {acl("lanacl", "'l'", "lanowner")}, lanpltrusted AS trusted, nullif(lanplcallfoid, 0)::regprocedure AS handler,
        nullif(laninline, 0)::regprocedure AS inline, nullif(lanvalidator, 0)::regprocedure AS validator FROM pg_language WHERE lanispl""",
    "access methods": f"""SELECT amname, amtype AS kind, amhandler AS handler FROM pg_am a WHERE {ours("pg_am", "a.oid")}""",
    "default privileges": f"""SELECT format('%I in %s for %s', {role("defaclrole")}, coalesce(quote_ident({schema("defaclnamespace")}), 'ALL'), defaclobjtype),
        {entries("aclexplode(defaclacl)")} AS "acl{{}}" FROM pg_default_acl""",
    "foreign data wrappers": f"""SELECT fdwname, {acl("fdwacl", "'F'", "fdwowner")}, nullif(fdwhandler, 0)::regprocedure AS handler,
        nullif(fdwvalidator, 0)::regprocedure AS validator, {unnested("fdwoptions")} AS "options{{}}" FROM pg_foreign_data_wrapper""",
    "foreign servers": f"""SELECT srvname, {acl("srvacl", "'S'", "srvowner")}, (SELECT fdwname FROM pg_foreign_data_wrapper f WHERE f.oid = srvfdw) AS wrapper,
        srvtype AS type, srvversion AS version, {unnested("srvoptions")} AS "options{{}}" FROM pg_foreign_server""",
    "user mappings": f"""SELECT format('%s on %I', CASE umuser WHEN 0 THEN 'PUBLIC' ELSE quote_ident({role("umuser")}) END, srvname),
        {unnested("umoptions")} AS "options{{}}" FROM pg_user_mapping JOIN pg_foreign_server s ON s.oid = umserver""",
    "foreign tables": f"""SELECT {relation("ftrelid")}, srvname AS server, {unnested("ftoptions")} AS "options{{}}"
        FROM pg_foreign_table JOIN pg_foreign_server s ON s.oid = ftserver""",
    "publications": f"""SELECT pubname, {
        role("pubowner")
    } AS owner, puballtables AS "all", pubinsert AS insert, pubupdate AS update, pubdelete AS delete,
        pubtruncate AS truncate, pubviaroot AS "via root", {
        listed(f"SELECT {schema('pnnspid')} FROM pg_publication_namespace WHERE pnpubid = p.oid")
    } AS "schemas{{}}",
        {
        listed(
            f"SELECT format('%s (%s) where %s', {relation('prrelid')}, (SELECT string_agg(attname, ', ' ORDER BY attnum) FROM pg_attribute"
            " WHERE attrelid = prrelid AND attnum = ANY (prattrs)), pg_get_expr(prqual, prrelid)) FROM pg_publication_rel WHERE prpubid = p.oid"
        )
    } AS "tables{{}}"
        FROM pg_publication p""",
    "subscriptions": f"""SELECT subname, {role("subowner")} AS owner, subenabled AS enabled, subconninfo AS connection, subslotname AS slot, subsynccommit AS synchronous,
        {unnested("subpublications")} AS "publications{{}}", subbinary AS binary,
        CASE to_jsonb(s) ->> 'substream' WHEN 'true' THEN 't' WHEN 'false' THEN 'f' ELSE to_jsonb(s) ->> 'substream' END AS stream,
        subtwophasestate AS "two phase", subdisableonerr AS "disable on error", to_jsonb(s) ->> 'subpasswordrequired' AS "password required",
        to_jsonb(s) ->> 'subrunasowner' AS "run as owner", to_jsonb(s) ->> 'suborigin' AS origin, to_jsonb(s) ->> 'subfailover' AS failover
        FROM pg_subscription s WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())""",
    "event triggers": f"""SELECT evtname, {role("evtowner")} AS owner, evtevent AS event, evtfoid::regprocedure AS function, evtenabled AS enabled,
        {unnested("evttags")} AS "tags{{}}" FROM pg_event_trigger""",
    "statistics": f"""SELECT format('%I.%I', {schema("stxnamespace")}, stxname), {role("stxowner")} AS owner, pg_get_statisticsobjdef(s.oid) AS definition,
        nullif(stxstattarget, -1) AS target FROM pg_statistic_ext s""",
    "sequences": f"""SELECT {relation("seqrelid")}, format_type(seqtypid, NULL) AS type, seqstart AS start, seqincrement AS increment, seqmin AS minimum,
        seqmax AS maximum, seqcache AS cache, seqcycle AS cycle,
        (SELECT {relation("refobjid")} || ' ' || attname || ' ' || deptype::text FROM pg_depend JOIN pg_attribute ON attrelid = refobjid AND attnum = refobjsubid
        WHERE classid = 'pg_class'::regclass AND objid = seqrelid AND refclassid = 'pg_class'::regclass AND deptype IN ('a', 'i')) AS "owned by" FROM pg_sequence""",
    "comments": f"""SELECT i.type || ' ' || CASE i.type WHEN 'transform' THEN replace(i.identity, ' on language ', ' language ') ELSE i.identity END, description AS comment FROM pg_description d, pg_identify_object(classoid, objoid, objsubid) i
        WHERE (objoid >= 16384 OR classoid IN ('pg_namespace'::regclass, 'pg_extension'::regclass)) AND {ours("d.classoid", "objoid").replace("'d.classoid'::regclass", "d.classoid").replace("objoid >= 16384 AND", "")}""",
    "security labels": """SELECT i.type || ' ' || i.identity || ' ' || provider, label FROM pg_seclabel, pg_identify_object(classoid, objoid, objsubid) i""",
    "large objects": f"""SELECT m.oid, {acl("lomacl", "'L'", "lomowner")}, length(lo_get(m.oid)) AS length, md5(lo_get(m.oid)) AS content FROM pg_largeobject_metadata m""",
}


def changed_rights(catalogue: str, name: str, rights: str, kind: str, owner: str) -> str:
    """Grants on what came with the system or an extension, as differences from how it came."""
    now = entries(
        f"(SELECT * FROM aclexplode({rights}) EXCEPT SELECT * FROM aclexplode(coalesce(initprivs, acldefault({kind}, {owner}))))"
    )
    gone = entries(
        f"(SELECT * FROM aclexplode(coalesce(initprivs, acldefault({kind}, {owner}))) EXCEPT SELECT * FROM aclexplode({rights}))"
    )
    return f"""SELECT '{catalogue} ' || {name}, {now} AS "granted{{}}", {gone} AS "revoked{{}}" FROM {catalogue} o
        LEFT JOIN pg_init_privs i ON i.classoid = '{catalogue}'::regclass AND i.objoid = o.oid AND i.objsubid = 0
        WHERE {rights} IS NOT NULL AND NOT ({ours(catalogue, "o.oid")}) AND {name} !~ '^information_schema' AND {rights} IS DISTINCT FROM initprivs"""


DATABASE["rights on what others brought"] = " UNION ALL ".join(
    changed_rights(*of)
    for of in (
        ("pg_proc", "o.oid::regprocedure::text", "proacl", "'f'", "proowner"),
        ("pg_class", relation("o.oid"), "relacl", "'r'", "relowner"),
        ("pg_type", "o.oid::regtype::text", "typacl", "'T'", "typowner"),
        ("pg_namespace", "nspname", "nspacl", "'n'", "nspowner"),
    )
)
DATABASE["rights on columns of what others brought"] = f"""SELECT {relation("c.oid")} || ' ' || quote_ident(attname),
    {entries("aclexplode(attacl)")} AS "acl{{}}" FROM pg_attribute a {OF_RELATION.format("attrelid")}
    LEFT JOIN pg_init_privs i ON i.classoid = 'pg_class'::regclass AND i.objoid = c.oid AND i.objsubid = attnum
    WHERE attacl IS NOT NULL AND NOT ({ours("pg_class", "c.oid")}) AND attacl IS DISTINCT FROM initprivs"""

# Queries that give one statement per table or sequence. A row is told by its columns in the order of their names,
# for a parent's late column stands elsewhere after a restore; the sum does not depend on the order of rows.
SETTLED = "JOIN pg_namespace n ON n.oid = relnamespace WHERE c.oid >= 16384 AND n.nspname !~ '^pg_(toast|temp)'"
CONTENT = {
    "rows": (
        "rows content",
        f"""SELECT format('COPY (SELECT %L, count(*), sum((''x'' || left(md5(ROW(%s)::text), 16))::bit(64)::bigint) FROM ONLY %I.%I) TO STDOUT',
        format('%I.%I', nspname, relname), (SELECT string_agg(quote_ident(attname), ', ' ORDER BY attname COLLATE "C") FROM pg_attribute
        WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped), nspname, relname)
        FROM pg_class c {SETTLED} AND (relkind = 'r' OR relkind = 'm' AND relispopulated)""",
    ),
    "positions": (
        "last called",
        f"""SELECT format('COPY (SELECT %L, last_value, is_called FROM %I.%I) TO STDOUT', format('%I.%I', nspname, relname), nspname, relname)
        FROM pg_class c {SETTLED} AND relkind = 'S'""",
    ),
}


NOTHING: Mapping[str, tuple[str, str]] = {}


class Session(NamedTuple):
    """Where to ask. A database without encoding (SQL_ASCII) gives its bytes to nobody who wants them to be text."""

    box: Box
    database: str = "postgres"
    encoding: str = "UTF8"

    def psql(self, script: str) -> str:
        options = " ".join(f"-c {name}={value}" for name, value in SETTINGS.items())
        given = {"PGDATABASE": self.database, "PGOPTIONS": options, "PGCLIENTENCODING": self.encoding}
        return str(self.box.run(PSQL, input=script, env=given).stdout)

    def ask(self, queries: Mapping[str, str], content: Mapping[str, tuple[str, str]] = NOTHING) -> dict[str, Answer]:
        """Rows of each query, the names of the columns before them.

        A line that begins with a backslash and a dot is none of COPY's, so it can part the answers.
        """
        script = [f"{mark(name)}COPY ({query}) TO STDOUT (HEADER true);\n" for name, query in queries.items()]
        for name, (columns, query) in content.items():
            header = "\\t".join(["key", *columns.split()])
            script.append(f"{mark(name)}\\echo '{header}'\n{query} \\gexec\n")
        answers: dict[str, Answer] = {}
        for line in self.psql("".join(script)).split("\n")[:-1]:
            if line.startswith("\\."):
                rows = answers.setdefault(line[2:], [])
            else:
                rows.append([field(text) for text in line.split("\t")])
        return answers

    def facts(
        self, queries: Mapping[str, str], content: Mapping[str, tuple[str, str]] = NOTHING
    ) -> dict[str, Catalogue]:
        """What the queries say, each a catalogue by its first column."""
        answers = self.ask(queries, content).items()
        return {name: catalogue(header[1:], rows) for name, (header, *rows) in answers}


def mark(name: str) -> str:
    return f"\\echo '\\\\.{name}'\n"


def field(text: str) -> str | None:
    """A field of COPY's text format."""
    if text == "\\N":
        return None
    return re.sub(r"\\(.)", lambda found: ESCAPES.get(found[1], found[1]), text)


def catalogue(names: Sequence[str | None], rows: Sequence[Sequence[str | None]]) -> Catalogue:
    """Facts by key; what has the key of another gets `#2` and so on behind it."""
    found: Catalogue = {}
    for key, *values in sorted(rows, key=repr):
        number, place = 1, str(key)
        while place in found:
            number += 1
            place = f"{key} #{number}"
        found[place] = dict(fact(str(name), value) for name, value in zip(names, values, strict=True))
    return found


def fact(name: str, value: str | None) -> tuple[str, Any]:
    if name.endswith("{}"):
        return name[:-2], sorted(json.loads(value or "[]"), key=repr)
    return (name[:-2], json.loads(value or "[]")) if name.endswith("[]") else (name, value)


def record(box: Box, only: Collection[str] | None = None) -> Facts:
    """Every fact of the server: `{"version", "cluster": {catalogue: {key: fact}}, "databases": {name: {…}}}`.

    `only`: look into these databases alone; of the others the cluster's facts are told.
    """
    session = Session(box)
    (_, (version,)) = session.ask({"": "SELECT current_setting('server_version_num')"})[""]
    cluster = session.facts(CLUSTER)
    databases = {}
    for name, about in cluster["databases"].items():
        whole = name != "template0" and about["limit"] != "-2"  # -2: a DROP DATABASE that did not end
        if whole and (only is None or name in only):
            databases[name] = of_database(box, name, about)
    return {"version": int(str(version)) // 10000, "cluster": cluster, "databases": databases}


def of_database(box: Box, name: str, about: Fact) -> dict[str, Catalogue]:
    """All catalogues of one database, its rows, and where its sequences are."""
    session = Session(box, name, "SQL_ASCII" if about["encoding"] == "SQL_ASCII" else "UTF8")
    if about["connectable"] == "t":
        return session.facts(DATABASE, CONTENT)
    change = f"ALTER DATABASE {ident(name)} ALLOW_CONNECTIONS "
    Session(box).psql(change + "true")
    try:
        return of_database(box, name, about | {"connectable": "t"})
    finally:
        Session(box).psql(change + "false")


def ident(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


# -- comparing

NEW = {"inherit", "set", "password required", "run as owner", "origin", "failover", "rules"}
DEFINITIONS = {"definition", "using", "checking", "default", "arguments", "partition of", "partition by"}


def compare(left: Facts, right: Facts, *, allowed: Collection[str] = ()) -> list[str]:
    """Every mismatch as `where: what: left became right`; `allowed` are regular expressions searched in that.

    Between two major versions some things must differ and are not told: versions of extensions, attributes that only
    one of them has, who granted a membership (15 did not check), MAINTAIN (new in 17), the qualification of columns
    and the blanks in definitions (16 prints fewer of them), and an ICU locale's `-true` (16 takes it away).
    """
    across = left["version"] != right["version"]
    found = [
        mismatch
        for place, (one, other) in places(left, right)
        for mismatch in differences(place, one, other, across=across)
    ]
    return [line for line in found if not any(re.search(pattern, line, re.DOTALL) for pattern in allowed)]


def places(left: Facts, right: Facts) -> Iterator[tuple[tuple[str, str], tuple[Catalogue, Catalogue]]]:
    """Pairs of catalogues; a database that only one side has is told by the catalogue of databases."""
    for name in left["cluster"]:
        yield ("cluster", name), (left["cluster"][name], right["cluster"][name])
    for database in sorted(left["databases"].keys() & right["databases"].keys()):
        ones, others = left["databases"][database], right["databases"][database]
        for name in ones:
            yield (f"database {database!r}", name), (ones[name], others[name])


def differences(place: tuple[str, str], left: Catalogue, right: Catalogue, *, across: bool) -> Iterator[str]:
    for key in sorted(left.keys() | right.keys()):
        where = f"{place[0]}: {place[1]} {key!r}"
        if across and place[1] == "membership grants":
            continue
        if key not in left or key not in right:
            yield f"{where}: {'missing' if key in left else 'unexpected'}"
            continue
        for what in sorted(left[key].keys() | right[key].keys()):
            one, other = left[key].get(what), right[key].get(what)
            if one != other and not (across and same_across(place[1], what, one, other)):
                yield f"{where}: {what}: {one!r} became {other!r}"


def same_across(catalogue_name: str, what: str, one: Any, other: Any) -> bool:
    """Whether two facts of different major versions mean the same."""
    if (catalogue_name, what) == ("extensions", "version"):
        return True
    if what in NEW and None in (one, other):
        return True
    if what in ("acl", "granted", "revoked"):
        return without_maintain(one) == without_maintain(other)
    if what == "locale":
        return str(one).removesuffix("-true") == str(other).removesuffix("-true")
    return what in DEFINITIONS and bare(one) == bare(other)


def without_maintain(rights: Sequence[str]) -> list[str]:
    return [right for right in rights if not re.search(r": MAINTAIN\*? by ", right)]


def bare(definition: str | None) -> str:
    return re.sub(r"""("([^"]|"")*"|\w+)\.|[\s()]""", "", definition or "")
