//! Definitions over a shard that is a map in memory and never makes anybody wait.

use super::analysis::{Analysed, Analyser, RowExpression};
use super::*;
use crate::catalog::descriptor::*;
use crate::catalog::ids::IdAllocator;
use crate::catalog::sequences::{LOG_AHEAD, Sequences};
use crate::catalog::shared::{CatalogChange, SharedCatalog};
use crate::catalog::{Catalog, store};
use crate::context::{CancelToken, ExprSettings, ReadView, SessionContext, StatementContext};
use crate::functions::Volatility;
use crate::pg_catalog::deparse;
use crate::response::{Notice, ResultColumn};
use crate::table_codec::{Access, TableCodec};
use crate::test_effects::FixedEffects;
use sqlparser::ast::Expr;
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;
use std::collections::BTreeMap;
use std::sync::Arc;
use txn::kv::*;
use txn::testing::{MapShards, still_env};
use txn::{Coordinator, Limits, Transaction};
use types::env::Env;
use types::{Datum, SqlState, SqlType, Timestamp};

/// Knows integers, and `column > 0`.
struct TinyAnalyser;

enum Tiny {
    Constant(Datum),
    Positive(usize),
}

impl RowExpression for Tiny {
    fn evaluate(&self, row: &[Datum], _: &StatementContext) -> Result<Datum> {
        Ok(match self {
            Tiny::Constant(value) => value.clone(),
            Tiny::Positive(at) => match row[*at] {
                Datum::Int4(n) => Datum::Bool(n > 0),
                _ => Datum::Null,
            },
        })
    }
}

impl Analyser for TinyAnalyser {
    fn expression(
        &self,
        _: &Arc<Catalog>,
        table: Option<&Arc<Table>>,
        expr: &Expr,
        target: Option<&SqlType>,
    ) -> Result<Analysed> {
        let expression = match (expr, table) {
            (Expr::BinaryOp { left, .. }, Some(table)) => {
                match table.column_position(&left.to_string()) {
                    Some(at) => Tiny::Positive(at),
                    None => return Err(Error::unsupported("this expression")),
                }
            }
            _ => match expr.to_string().parse() {
                Ok(n) => Tiny::Constant(Datum::Int4(n)),
                Err(_) => Tiny::Constant(Datum::Null),
            },
        };
        Ok(Analysed {
            sql_type: match (&expression, target) {
                (_, Some(target)) => target.clone(),
                (Tiny::Positive(_), None) => SqlType::Bool,
                (Tiny::Constant(_), None) => SqlType::Int4,
            },
            volatility: Volatility::Immutable,
            expression: Box::new(expression),
        })
    }

    fn query(&self, _: &Arc<Catalog>, _: &ast::Query) -> Result<Vec<ResultColumn>> {
        Ok(vec![ResultColumn {
            name: "a".into(),
            sql_type: SqlType::Int4,
            table: 0,
            attribute: 0,
        }])
    }
}

/// One instance with one session in it.
struct World {
    coordinator: Coordinator,
    shared: SharedCatalog,
    ids: IdAllocator,
    settings: Arc<ExprSettings>,
    notices: Vec<Notice>,
}

impl World {
    async fn new() -> World {
        let coordinator =
            Coordinator::new(Arc::new(MapShards::default()), env(), Limits::default());
        store::bootstrap(&coordinator).await.unwrap();
        // A second start changes nothing.
        store::bootstrap(&coordinator).await.unwrap();
        let settings = ExprSettings {
            time_zone: "UTC".into(),
            user: SUPERUSER.into(),
            session_user: SUPERUSER.into(),
            database: DEFAULT_DATABASE.into(),
            search_path: vec!["$user".to_string(), "public".to_string()].into(),
            application_name: "".into(),
            backend_pid: 1,
            transaction_micros: 0,
            statement_micros: 0,
        };
        let mut world = World {
            ids: IdAllocator::new(coordinator.clone()),
            coordinator,
            shared: SharedCatalog::new(Catalog::default(), Timestamp::ZERO),
            settings: Arc::new(settings),
            notices: Vec::new(),
        };
        let view = world.view().await;
        world.shared = SharedCatalog::new(store::load(&view).await.unwrap(), view.at);
        world
    }

    async fn view(&self) -> ReadView {
        ReadView {
            shards: self.coordinator.shards().clone(),
            at: self
                .coordinator
                .read_timestamp(ReadScope::All)
                .await
                .unwrap(),
            overlay: None,
            reads: None,
            guard: None,
        }
    }

    async fn context(&self, catalog: Arc<Catalog>) -> StatementContext {
        StatementContext {
            view: self.view().await,
            settings: self.settings.clone(),
            session: Arc::new(SessionContext {
                catalog,
                cancel: CancelToken::default(),
                env: env(),
                effects: Arc::new(FixedEffects),
                lock_timeout_nanos: None,
                row_ids: Arc::default(),
            }),
            read_only: false,
            parts: None,
        }
    }

    fn database(&self) -> ObjectId {
        let catalog = self.shared.current();
        catalog.database_by_name(DEFAULT_DATABASE).unwrap().oid
    }

    /// Runs statements in one transaction, and leaves it open.
    async fn open(
        &mut self,
        text: &str,
    ) -> Result<(Transaction, BTreeMap<ObjectId, CatalogChange>)> {
        let mut txn = self.coordinator.begin(Isolation::ReadCommitted, false);
        let mut catalog = self.shared.current();
        let mut changes = BTreeMap::new();
        let database = self.database();
        let context = self.context(catalog.clone()).await;
        for piece in text.split(';').filter(|piece| !piece.trim().is_empty()) {
            txn.begin_statement(ReadScope::All).await?;
            let mut d = DdlContext {
                txn: &mut txn,
                catalog: &mut catalog,
                changes: &mut changes,
                database,
                statement: &context,
                notices: &mut self.notices,
                ids: &self.ids,
                analyser: &TinyAnalyser,
                wait: WaitPolicy::NoWait,
            };
            match extra::parse(piece)? {
                Some(statement) => extra::execute(&statement, &mut d).await?,
                None => {
                    let parsed = Parser::parse_sql(&PostgreSqlDialect {}, piece)
                        .map_err(|error| Error::syntax(error.to_string()))?;
                    execute(&parsed[0], &mut d).await?
                }
            };
        }
        Ok((txn, changes))
    }

    async fn run(&mut self, text: &str) -> Result<()> {
        let (mut txn, changes) = self.open(text).await?;
        let committed = txn.commit().await?;
        self.shared
            .publish(changes.into_values().collect(), committed);
        Ok(())
    }

    async fn ok(&mut self, text: &str) {
        if let Err(error) = self.run(text).await {
            panic!("{text}: {error} {:?}", error.fields);
        }
    }

    async fn fails(&mut self, text: &str, state: SqlState, message: &str) -> Error {
        match self.run(text).await {
            Ok(()) => panic!("{text}: was accepted"),
            Err(error) => {
                assert_eq!(
                    (error.state, error.message.as_str()),
                    (state, message),
                    "{text}"
                );
                error
            }
        }
    }

    fn table(&self, name: &str) -> Arc<Table> {
        let catalog = self.shared.current();
        let schema = catalog
            .schema_by_name(self.database(), "public")
            .unwrap()
            .oid;
        match catalog.relation_in(schema, name) {
            Some(crate::catalog::Relation::Table(table)) => table,
            other => panic!("{name}: {other:?}"),
        }
    }

    async fn insert(&self, table: &str, rows: &[&[Datum]]) {
        let codec = TableCodec::new(self.table(table)).unwrap();
        let mut txn = self.coordinator.begin(Isolation::ReadCommitted, false);
        for (at, row) in rows.iter().enumerate() {
            let key = if codec.has_primary_key() {
                codec.row_key(row)
            } else {
                codec.row_id_key(at as i64)
            };
            txn.put(key, codec.encode_row(row).unwrap()).unwrap();
        }
        txn.commit().await.unwrap();
    }

    async fn rows(&self, table: &str) -> Vec<Vec<Datum>> {
        let codec = TableCodec::new(self.table(table)).unwrap();
        let page = self
            .view()
            .await
            .scan(codec.spans(Access::Primary).remove(0), false, 100, 1 << 20)
            .await
            .unwrap();
        page.rows
            .iter()
            .map(|(_, value, _)| codec.decode_whole_row(value).unwrap())
            .collect()
    }

    async fn keys(&self, span: Span) -> usize {
        self.view()
            .await
            .scan(span, false, 1000, 1 << 20)
            .await
            .unwrap()
            .rows
            .len()
    }

    /// What is published is what a restart would load.
    async fn check_durable(&self) {
        let published = self.shared.current();
        let mut loaded = store::load(&self.view().await).await.unwrap();
        // What was dropped last leaves no row.
        loaded.note_commit(published.newest());
        assert_eq!(format!("{loaded:?}"), format!("{published:?}"));
    }
}

fn env() -> Env {
    still_env(0, 7)
}

#[tokio::test]
async fn tables_with_everything_come_back_after_a_restart() {
    let mut w = World::new().await;
    w.ok(
        "create table c (id serial primary key, email varchar(20) not null unique, \
          n int default 5 check (n > 0), unique (n, email));
          create table o (c_id int references c on delete cascade, x int) with (fillfactor=100);
          create index on o (x desc, c_id); create unique index o_u on o (c_id) where x > 0",
    )
    .await;
    let c = w.table("c");
    assert_eq!(c.primary_key.as_ref().unwrap().name, "c_pkey");
    let names: Vec<&str> = c.indexes.iter().map(|index| index.name.as_str()).collect();
    assert_eq!(names, ["c_email_key", "c_n_email_key"]);
    assert_eq!(c.checks[0].name, "c_n_check");
    let catalog = w.shared.current();
    let sequence = catalog
        .sequence(c.columns[0].owned_sequence.unwrap())
        .unwrap();
    assert_eq!(
        (sequence.name.as_str(), sequence.max),
        ("c_id_seq", i64::from(i32::MAX))
    );
    let o = w.table("o");
    assert_eq!(o.options, [("fillfactor".to_string(), "100".to_string())]);
    let shown = |oid| deparse::index_definition(&catalog, &o, oid).unwrap();
    assert_eq!(
        shown(o.indexes[0].oid),
        "CREATE INDEX o_x_c_id_idx ON public.o USING btree (x DESC, c_id)"
    );
    assert_eq!(
        shown(o.indexes[1].oid),
        "CREATE UNIQUE INDEX o_u ON public.o USING btree (c_id) WHERE (x > 0)"
    );
    let key = deparse::constraint_definition(&catalog, &w.settings, &o, o.foreign_keys[0].oid);
    assert_eq!(
        key.as_deref(),
        Some("FOREIGN KEY (c_id) REFERENCES c(id) ON DELETE CASCADE")
    );
    assert_eq!(
        deparse::default_text(
            &catalog,
            &w.settings,
            c.columns[0].default.as_deref().unwrap(),
            &SqlType::Int4
        ),
        "nextval('c_id_seq'::regclass)"
    );
    w.check_durable().await;
}

#[tokio::test]
async fn names_are_given_once() {
    let mut w = World::new().await;
    w.ok("create table t (a int)").await;
    let taken = "relation \"t\" already exists";
    w.fails("create table t (a int)", SqlState::DUPLICATE_TABLE, taken)
        .await;
    w.fails("create sequence t", SqlState::DUPLICATE_TABLE, taken)
        .await;
    w.ok("create table if not exists t (b int)").await;
    assert_eq!(
        w.notices[0].body.message,
        "relation \"t\" already exists, skipping"
    );
    // Two transactions at once: the second must wait, and then finds the first one's name.
    let stale = w.shared.current();
    let (mut first, _) = w.open("create table u (a int)").await.unwrap();
    w.fails(
        "create table u (a int)",
        SqlState::LOCK_NOT_AVAILABLE,
        "could not obtain lock",
    )
    .await;
    first.commit().await.unwrap();
    w.shared = SharedCatalog::new((*stale).clone(), Timestamp::ZERO);
    w.fails(
        "create table u (a int)",
        SqlState::DUPLICATE_TABLE,
        "relation \"u\" already exists",
    )
    .await;
    w.ok("drop table t").await;
    w.ok("create table t (a int)").await;
}

#[tokio::test]
async fn an_old_picture_does_not_undo_newer_changes() {
    let mut w = World::new().await;
    w.ok("create table t (a int)").await;
    let stale = w.shared.current();
    w.ok("alter table t add column b int").await;
    w.shared = SharedCatalog::new((*stale).clone(), Timestamp::ZERO);
    w.ok("alter table t add column c int").await;
    let names: Vec<String> = w
        .table("t")
        .columns
        .iter()
        .map(|c| c.name.clone())
        .collect();
    assert_eq!(names, ["a", "b", "c"]);
}

#[tokio::test]
async fn drops_tell_what_depends_on_them() {
    let mut w = World::new().await;
    w.ok("create table p (id int primary key); create table q (p int references p)")
        .await;
    w.ok("create view v as select id as a from p").await;
    let error = w
        .fails(
            "drop table p",
            SqlState::DEPENDENT_OBJECTS_STILL_EXIST,
            "cannot drop table p because other objects depend on it",
        )
        .await;
    assert_eq!(
        error.fields.detail.as_deref(),
        Some(
            "constraint q_p_fkey on table q depends on table p\n\
             view v depends on table p"
        )
    );
    w.ok("drop table p cascade").await;
    assert_eq!(
        w.notices[0].body.message,
        "drop cascades to 2 other objects"
    );
    assert!(w.table("q").foreign_keys.is_empty());
    w.ok("drop table if exists p, q").await;
    w.fails(
        "drop table p",
        SqlState::UNDEFINED_TABLE,
        "table \"p\" does not exist",
    )
    .await;
    w.check_durable().await;
}

#[tokio::test]
async fn rows_of_dropped_tables_are_deleted_in_batches() {
    let mut w = World::new().await;
    w.ok("create table t (a int primary key)").await;
    let one = [Datum::Int4(1)];
    let two = [Datum::Int4(2)];
    w.insert("t", &[&one, &two]).await;
    let old = TableCodec::new(w.table("t")).unwrap();
    w.ok("truncate t").await;
    assert_eq!(w.rows("t").await.len(), 0);
    assert_eq!(w.keys(old.whole_span()).await, 2);
    let mut position = cleanup::Position::default();
    while cleanup::delete_dropped(&w.coordinator, &mut position)
        .await
        .unwrap()
        .is_some()
    {}
    assert_eq!(w.keys(old.whole_span()).await, 0);
    assert_eq!(w.keys(store::dropped_spans()).await, 0);
}

#[tokio::test]
async fn indexes_are_built_over_rows() {
    let mut w = World::new().await;
    w.ok("create table t (a int, b int)").await;
    let row = |a, b| [Datum::Int4(a), Datum::Int4(b)];
    w.insert("t", &[&row(1, 5), &row(2, 5)]).await;
    w.ok("create index i on t (b)").await;
    let codec = TableCodec::new(w.table("t")).unwrap();
    assert_eq!(w.keys(codec.spans(Access::Secondary(0)).remove(0)).await, 2);
    let error = w
        .fails(
            "create unique index u on t (b)",
            SqlState::UNIQUE_VIOLATION,
            "could not create unique index \"u\"",
        )
        .await;
    assert_eq!(
        error.fields.detail.as_deref(),
        Some("Key (b)=(5) is duplicated.")
    );
    w.ok("drop index i").await;
    assert_eq!(w.keys(codec.spans(Access::Secondary(0)).remove(0)).await, 0);
    // A primary key moves the rows to keys of their own.
    w.ok("alter table t add primary key (a)").await;
    assert_eq!(w.rows("t").await, [row(1, 5).to_vec(), row(2, 5).to_vec()]);
    w.check_durable().await;
}

#[tokio::test]
async fn columns_come_and_go() {
    let mut w = World::new().await;
    w.ok("create table t (a int)").await;
    w.insert("t", &[&[Datum::Int4(1)]]).await;
    w.ok("alter table t add column b int not null default 7")
        .await;
    assert_eq!(w.rows("t").await, [[Datum::Int4(1), Datum::Int4(7)]]);
    w.fails(
        "alter table t add column c int not null",
        SqlState::NOT_NULL_VIOLATION,
        "column \"c\" of relation \"t\" contains null values",
    )
    .await;
    w.ok("alter table t drop column a").await;
    assert_eq!(w.rows("t").await, [[Datum::Null, Datum::Int4(7)]]);
    w.fails(
        "alter table t add check (b > 0), add check (b > 0), add constraint n check (zz > 0)",
        SqlState::FEATURE_NOT_SUPPORTED,
        "this expression is not supported yet",
    )
    .await;
    w.ok("alter table t rename column b to a; alter table t alter column a drop not null")
        .await;
    w.ok("alter table t rename to s; alter table s add constraint k unique (a)")
        .await;
    w.fails(
        "alter table s drop constraint nope",
        SqlState::UNDEFINED_OBJECT,
        "constraint \"nope\" of relation \"s\" does not exist",
    )
    .await;
    w.ok("alter table s drop constraint k").await;
    w.check_durable().await;
}

#[tokio::test]
async fn sequences_count_and_restart() {
    let mut w = World::new().await;
    w.ok("create sequence s start with 5 increment by 2").await;
    let catalog = w.shared.current();
    let database = w.database();
    let of = move |catalog: &Catalog| catalog.sequences(database).next().unwrap().clone();
    let s = of(&catalog);
    let sequences = Sequences::new(w.coordinator.clone());
    for expected in [5, 7, 9] {
        assert_eq!(sequences.nextval(&s).await, Ok(expected));
    }
    assert_eq!(sequences.state(&s).await, Ok((9, true)));
    // After a crash at most the reserved values are skipped.
    let after_crash = Sequences::new(w.coordinator.clone());
    let next = after_crash.nextval(&s).await.unwrap();
    assert!(
        next > 9 && next <= 9 + 2 * i64::from(LOG_AHEAD) + 2,
        "{next}"
    );
    assert_eq!(after_crash.setval(&s, 100, true).await, Ok(100));
    assert_eq!(after_crash.nextval(&s).await, Ok(102));
    w.ok("alter sequence s restart with 7 maxvalue 8").await;
    let s = of(&w.shared.current());
    assert_eq!(after_crash.nextval(&s).await, Ok(7));
    assert_eq!(
        after_crash.nextval(&s).await.map_err(|error| error.message),
        Err("nextval: reached maximum value of sequence \"s\" (8)".into())
    );
}

#[tokio::test]
async fn schemas_roles_and_databases() {
    let mut w = World::new().await;
    w.ok("create schema a; create table a.t (x int primary key); create user u password 'x'")
        .await;
    w.fails(
        "create schema a",
        SqlState::DUPLICATE_SCHEMA,
        "schema \"a\" already exists",
    )
    .await;
    w.fails(
        "drop schema a",
        SqlState::DEPENDENT_OBJECTS_STILL_EXIST,
        "cannot drop schema a because other objects depend on it",
    )
    .await;
    w.ok("drop schema a cascade; create database d; drop database d")
        .await;
    let catalog = w.shared.current();
    let user = catalog.role_by_name("u").unwrap();
    assert!(user.can_login && !user.superuser);
    assert!(scram::Verifier::parse(user.password.as_deref().unwrap()).is_some());
    w.ok("drop role u").await;
    w.check_durable().await;
}

#[tokio::test]
async fn virtual_tables_show_what_there_is() {
    let mut w = World::new().await;
    w.ok(
        "create table t (id bigserial primary key, a text default 'x', check (id > 0)); \
          create view v as select id as a from t",
    )
    .await;
    let context = w.context(w.shared.current()).await;
    for table in crate::pg_catalog::virtual_tables().iter() {
        let rows = (table.rows)(&context).unwrap_or_else(|error| panic!("{}: {error}", table.name));
        for row in rows {
            assert_eq!(row.len(), table.columns.len(), "{}", table.name);
        }
    }
    let tables = crate::pg_catalog::virtual_tables();
    let columns = tables.lookup("information_schema", "columns").unwrap();
    let place = |name| {
        columns
            .columns
            .iter()
            .position(|(n, _)| *n == name)
            .unwrap()
    };
    let rows = (columns.rows)(&context).unwrap();
    let of_t: Vec<_> = rows
        .iter()
        .filter(|row| row[place("table_name")] == Datum::Text("t".into()))
        .map(|row| {
            (
                row[place("data_type")].clone(),
                row[place("column_default")].clone(),
            )
        })
        .collect();
    let text = |value: &str| Datum::Text(value.into());
    assert_eq!(
        of_t,
        [
            (text("bigint"), text("nextval('t_id_seq'::regclass)")),
            (text("text"), text("'x'::text")),
        ]
    );
}
