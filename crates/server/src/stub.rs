use bytes::Bytes;
use sql::response::*;
use std::sync::Arc;
use types::text::FormatContext;
use types::{Error, Result, SqlType};

pub struct Instance;
pub struct StartupParams {
    pub user: String,
    pub database: Option<String>,
    pub options: Vec<(String, String)>,
    pub client_addr: String,
}
pub struct RoleAuth {
    pub can_login: bool,
    pub verifier: Option<String>,
}
impl Instance {
    pub fn connect(self: &Arc<Self>, _: StartupParams) -> Result<Session> {
        Ok(Session {
            context: FormatContext::default(),
        })
    }
    pub fn role_password(&self, _: &str) -> Option<RoleAuth> {
        None
    }
    pub fn cancel(&self, _: i32, _: i32) {}
}
pub struct Session {
    context: FormatContext,
}
pub struct SimpleQuery(bool);
pub struct Execution {
    pub response: Response,
    pub suspended: bool,
}
impl Session {
    pub fn pid(&self) -> i32 {
        1
    }
    pub fn secret(&self) -> i32 {
        1
    }
    pub fn status(&self) -> TransactionStatus {
        TransactionStatus::Idle
    }
    pub fn startup_parameters(&self) -> Vec<(String, String)> {
        vec![]
    }
    pub fn take_parameter_changes(&mut self) -> Vec<(String, String)> {
        vec![]
    }
    pub fn take_notices(&mut self) -> Vec<Notice> {
        vec![]
    }
    pub fn simple(&mut self, _: &str) -> SimpleQuery {
        SimpleQuery(false)
    }
    pub async fn next_simple(&mut self, q: &mut SimpleQuery) -> Option<Result<Response>> {
        if q.0 {
            return None;
        }
        q.0 = true;
        Some(Ok(Response::Rows {
            set: RowSet {
                columns: Arc::new([ResultColumn {
                    name: "a".into(),
                    sql_type: SqlType::Int4,
                    table: 0,
                    attribute: 0,
                }]),
                rows: RowSource::Ready(vec![vec![types::Datum::Int4(7)]]),
            },
            tag: RowsTag::Counted("SELECT"),
        }))
    }
    pub async fn parse(&mut self, _: &str, _: &str, _: &[u32]) -> Result<()> {
        Ok(())
    }
    pub fn describe_statement(
        &self,
        _: &str,
    ) -> Result<(Vec<SqlType>, Option<Arc<[ResultColumn]>>)> {
        Ok((vec![], None))
    }
    pub fn describe_portal(&self, _: &str) -> Result<Option<Arc<[ResultColumn]>>> {
        Ok(None)
    }
    pub fn bind(
        &mut self,
        _: &str,
        _: &str,
        _: &[i16],
        _: &[Option<Bytes>],
        _: &[i16],
    ) -> Result<()> {
        Ok(())
    }
    pub fn portal_formats(&self, _: &str) -> Result<Arc<[i16]>> {
        Ok(Arc::new([]))
    }
    pub fn cancel_token(&self) -> sql::context::CancelToken {
        Default::default()
    }
    pub async fn execute(&mut self, _: &str, _: u32) -> Result<Execution> {
        Err(Error::unsupported("x"))
    }
    pub async fn sync(&mut self) -> Result<()> {
        Ok(())
    }
    pub fn close_statement(&mut self, _: &str) {}
    pub fn close_portal(&mut self, _: &str) {}
    pub async fn copy_in_data(&mut self, _: Bytes) {}
    pub async fn copy_in_done(&mut self) -> Result<String> {
        Ok("COPY 0".into())
    }
    pub fn copy_in_fail(&mut self, m: &str) -> Error {
        Error::internal(m)
    }
    pub fn fail(&mut self) {}
    pub fn encode_context(&self) -> FormatContext {
        self.context.clone()
    }
    pub fn idle_timeout(&self) -> Option<std::time::Duration> {
        None
    }
}
pub fn datum_at(
    _: &dyn datafusion::arrow::array::Array,
    _: usize,
    _: &SqlType,
) -> Result<types::Datum> {
    Ok(types::Datum::Null)
}
pub struct InstanceOptions {
    pub query_memory_bytes: usize,
    pub transaction_memory_bytes: usize,
    pub parallelism: usize,
}
impl Instance {
    pub async fn open(
        _: Arc<dyn txn::kv::Shards>,
        _: types::env::Env,
        _: InstanceOptions,
    ) -> Result<Arc<Self>> {
        Ok(Arc::new(Instance))
    }
    pub fn has_login_with_password(&self) -> bool {
        false
    }
}
