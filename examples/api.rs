//! A small JSON API: a to-do list with routes, shared state, limits, and middleware around a part of it.
//!
//! ```sh
//! cargo run -p greenserve-examples --bin api -- --bind 127.0.0.1:8000
//! curl 127.0.0.1:8000/api/tasks -H 'x-key: secret' --json '{"title": "buy milk"}'
//! curl '127.0.0.1:8000/api/tasks?done=false' -H 'x-key: secret'
//! curl -X PATCH 127.0.0.1:8000/api/tasks/1 -H 'x-key: secret' --json '{"done": true}'
//! ```

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use greenserve::{
    Error, Handler, Html, IntoResponse, Json, Redirect, Request, Response, Router, StatusCode, limit_body,
    time_limit,
};
use serde::{Deserialize, Serialize};

#[derive(Clone, Serialize)]
struct Task {
    id: u64,
    title: String,
    done: bool,
}

/// What all handlers share. An `Rc<RefCell<…>>` would do with `Router::local()`; this serves with `-k threads`, too.
#[derive(Clone, Default)]
struct Tasks(Arc<Mutex<BTreeMap<u64, Task>>>);

impl Tasks {
    /// Nobody waits for anything while holding it, so that green threads can't lock each other out.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Task>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn list(&self, req: Request) -> Result<Json<Vec<Task>>, Error> {
        #[derive(Deserialize)]
        struct Filter {
            done: Option<bool>,
        }
        let filter: Filter = req.query_as()?;
        let wanted = |task: &&Task| filter.done.is_none_or(|done| done == task.done);
        Ok(Json(self.lock().values().filter(wanted).cloned().collect()))
    }

    fn add(&self, mut req: Request) -> Result<Response, Error> {
        #[derive(Deserialize)]
        struct New {
            title: String,
        }
        let New { title } = req.json()?;
        if title.trim().is_empty() {
            return Err(Error::new(StatusCode::UNPROCESSABLE_ENTITY, "a task needs a title"));
        }
        let mut tasks = self.lock();
        let id = tasks.last_key_value().map_or(1, |(last, _)| last + 1);
        let task = Task { id, title, done: false };
        tasks.insert(id, task.clone());
        Ok((StatusCode::CREATED, [("location", format!("/api/tasks/{id}"))], Json(task)).into_response())
    }

    fn show(&self, req: Request) -> Result<Json<Task>, Error> {
        let id = req.param_as("id")?;
        Ok(Json(self.lock().get(&id).cloned().ok_or(StatusCode::NOT_FOUND)?))
    }

    fn change(&self, mut req: Request) -> Result<Json<Task>, Error> {
        #[derive(Deserialize)]
        struct Change {
            title: Option<String>,
            done: Option<bool>,
        }
        let id = req.param_as("id")?;
        let change: Change = req.json()?;
        let mut tasks = self.lock();
        let task = tasks.get_mut(&id).ok_or(StatusCode::NOT_FOUND)?;
        task.title = change.title.unwrap_or_else(|| task.title.clone());
        task.done = change.done.unwrap_or(task.done);
        Ok(Json(task.clone()))
    }

    fn remove(&self, req: Request) -> Result<StatusCode, Error> {
        self.lock().remove(&req.param_as("id")?).ok_or(StatusCode::NOT_FOUND)?;
        Ok(StatusCode::NO_CONTENT)
    }

    /// A method as a handler that has its own hold on the tasks.
    fn handler<R: IntoResponse + 'static>(
        &self,
        method: fn(&Tasks, Request) -> R,
    ) -> impl Handler + Send + Sync + use<R> {
        let tasks = self.clone();
        move |req: Request| method(&tasks, req)
    }
}

/// Lets in who knows the key, and tells the others what is missing.
fn with_key(req: Request, next: &dyn Handler) -> Result<Response, Error> {
    match req.header("x-key") {
        Some(b"secret") => Ok(next.call(req)),
        _ => Err(Error::new(StatusCode::UNAUTHORIZED, "the header x-key is missing or wrong")),
    }
}

/// One line for each request, by its route: there are as many of these as lines in `app`, whatever clients ask for.
fn timed(req: Request, next: &dyn Handler) -> Response {
    let began = Instant::now();
    let method = req.method().clone();
    let response = next.call(req);
    let route = response.route().unwrap_or("no route");
    log::info!("{method} {route}: {} after {:?}", response.status().as_u16(), began.elapsed());
    response
}

fn app() -> impl Handler + Send + Sync {
    let tasks = Tasks::default();
    let api = Router::new()
        .get("/tasks", tasks.handler(Tasks::list))
        .post("/tasks", tasks.handler(Tasks::add).with(limit_body(1024)))
        .get("/tasks/{id}", tasks.handler(Tasks::show))
        .patch("/tasks/{id}", tasks.handler(Tasks::change).with(limit_body(1024)))
        .delete("/tasks/{id}", tasks.handler(Tasks::remove))
        .get(
            "/slow",
            (|_: Request| greenlet::sleep(Duration::from_secs(60)))
                .with(time_limit(Duration::from_millis(50))),
        );
    Router::new()
        .get("/", |_: Request| Html("<h1>Tasks</h1><p>They are at <a href=/api/tasks>/api/tasks</a>.\n"))
        .get("/tasks", |_: Request| Redirect::permanent("/api/tasks"))
        .nest("/api", api.with(with_key))
        .fallback(|req: Request| (StatusCode::NOT_FOUND, format!("there is no {} here\n", req.path())))
        .with(timed)
}

fn main() -> greenserve::ExitCode {
    greenserve::main(app())
}
