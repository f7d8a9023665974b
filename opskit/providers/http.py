"""HTTP: HttpHook, HttpOperator, HttpSensor, over the library requests (`opskit[http]`)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar
from urllib.parse import urlsplit

from opskit.core.dag.base_operator import BaseOperator
from opskit.core.dag.exceptions import AirflowException
from opskit.core.dag.hooks.base import BaseHook
from opskit.core.dag.operators.python import call_with_context
from opskit.core.dag.sensors.base import BaseSensorOperator, PokeReturnValue
from opskit.providers.optional import library

_SESSION_OPTIONS = ("stream", "verify", "cert", "proxies", "max_redirects", "trust_env")
_SEND_OPTIONS = ("timeout", "allow_redirects", "check_response")


class HttpHook(BaseHook):
    """Requests to the server of a connection: its schema (http without one), host and port are the start of each URL; a
    host with `://` is that start itself. Login and password go to `auth_type` (basic authentication without it). Extras
    are headers, but for stream, verify, cert, proxies, max_redirects, trust_env, timeout (seconds), allow_redirects
    and check_response."""

    conn_name_attr: ClassVar[str] = "http_conn_id"
    default_conn_name: ClassVar[str] = "http_default"
    conn_type: ClassVar[str] = "http"
    hook_name: ClassVar[str] = "HTTP"
    default_host = ""

    def __init__(
        self,
        method: str = "POST",
        http_conn_id: str = default_conn_name,
        auth_type: Any = None,
        tcp_keep_alive: bool = True,
        tcp_keep_alive_idle: int = 120,
        tcp_keep_alive_count: int = 20,
        tcp_keep_alive_interval: int = 30,
        adapter: Any = None,
    ) -> None:
        super().__init__()
        self.http_conn_id = http_conn_id
        self.method = method.upper()
        self.base_url = ""
        self.auth_type = auth_type
        self.tcp_keep_alive = tcp_keep_alive
        self.keep_alive_idle = tcp_keep_alive_idle
        self.keep_alive_count = tcp_keep_alive_count
        self.keep_alive_interval = tcp_keep_alive_interval
        self.adapter = adapter
        self.merged_extra: dict[str, Any] = {}

    def get_conn(self, headers: dict[Any, Any] | None = None, extra_options: dict[str, Any] | None = None) -> Any:
        """A session of requests as the connection says, with `headers` besides; `base_url` is set after it."""
        requests = library("requests", extra="http", needed_by="HttpHook")
        session = requests.Session()
        self.merged_extra = dict(extra_options or {})
        if self.http_conn_id:
            self._configure(session, self.get_connection(self.http_conn_id))
        adapter = self.adapter or (_keep_alive_adapter(self) if self.tcp_keep_alive else None)
        if adapter is not None:
            for scheme in ("http://", "https://"):
                session.mount(scheme, adapter)
        session.headers.update(headers or {})
        return session

    def _configure(self, session: Any, conn: Any) -> None:
        host = conn.host or self.default_host
        self.base_url = host if "://" in host else f"{conn.schema or 'http'}://{host}"
        if conn.port:
            self.base_url += f":{conn.port}"
        if not urlsplit(self.base_url).scheme:
            raise ValueError(f"connection {conn.conn_id}: {self.base_url!r} is no start of a URL")
        if conn.login:
            auth = self.auth_type or library("requests.auth", extra="http", needed_by="HttpHook").HTTPBasicAuth
            session.auth = auth(conn.login, conn.password or "")
        elif self.auth_type is not None:
            session.auth = self.auth_type()
        extra = conn.extra_dejson
        if "proxy" in extra:
            extra.setdefault("proxies", extra.pop("proxy"))
        given = self.merged_extra
        options = {name: extra.pop(name) for name in (*_SESSION_OPTIONS, *_SEND_OPTIONS) if name in extra}
        self.merged_extra = {**options, **given}
        headers = extra.pop("headers", None)
        if isinstance(headers, dict):
            session.headers.update(headers)
        session.headers.update({name: str(value) for name, value in extra.items()})

    def url_from_endpoint(self, endpoint: str | None) -> str:
        """The URL of an endpoint; known after get_conn."""
        endpoint = endpoint or ""
        if self.base_url and endpoint and not self.base_url.endswith("/") and not endpoint.startswith("/"):
            return f"{self.base_url}/{endpoint}"
        return self.base_url + endpoint

    def run(
        self,
        endpoint: str | None = None,
        data: dict[str, Any] | str | None = None,
        headers: dict[str, Any] | None = None,
        extra_options: dict[str, Any] | None = None,
        **request_kwargs: Any,
    ) -> Any:
        """The response to one request. `data` is the query of a GET and the body of other methods; `request_kwargs` go
        to `requests.Request` (json, files …). AirflowException for a status of 400 or more, unless extra_options has
        check_response=False."""
        requests = library("requests", extra="http", needed_by="HttpHook")
        with self.get_conn(headers, extra_options) as session:
            url = self.url_from_endpoint(endpoint)
            if self.method == "GET":
                request_kwargs.setdefault("params", data)
            elif self.method != "HEAD":
                request_kwargs.setdefault("data", data)
            request = requests.Request(self.method, url, headers=headers, **request_kwargs)
            prepared = session.prepare_request(request)
            self.log.debug("Sending '%s' to url: %s", self.method, url)
            return self.run_and_check(session, prepared, self.merged_extra)

    def check_response(self, response: Any) -> None:
        """AirflowException (`404:Not Found`) for a status of 400 or more; the body goes to the log."""
        if response.status_code >= 400:
            self.log.error("HTTP error: %s", response.reason)
            self.log.error(response.text)
            raise AirflowException(f"{response.status_code}:{response.reason}")

    def run_and_check(self, session: Any, prepped_request: Any, extra_options: dict[Any, Any]) -> Any:
        """Send what was prepared. Errors of the connection are requests' own."""
        options = extra_options or {}
        if "max_redirects" in options:
            session.max_redirects = int(options["max_redirects"])
        if "trust_env" in options:
            session.trust_env = bool(options["trust_env"])
        settings = session.merge_environment_settings(
            prepped_request.url,
            proxies=options.get("proxies") or {},
            stream=options.get("stream", False),
            verify=options.get("verify", True),
            cert=options.get("cert"),
        )
        requests = library("requests", extra="http", needed_by="HttpHook")
        try:
            response = session.send(
                prepped_request,
                timeout=options.get("timeout"),
                allow_redirects=options.get("allow_redirects", True),
                **settings,
            )
        except requests.exceptions.ConnectionError as error:
            self.log.warning("%s Tenacity will retry to execute the operation", error)
            raise
        if options.get("check_response", True):
            self.check_response(response)
        return response

    def run_with_advanced_retry(self, _retry_args: dict[Any, Any], *args: Any, **kwargs: Any) -> Any:
        """`run`, again and again as `tenacity.Retrying(**_retry_args)` says."""
        tenacity = library("tenacity", extra="http", needed_by="run_with_advanced_retry()")
        return tenacity.Retrying(**_retry_args)(self.run, *args, **kwargs)

    def test_connection(self) -> tuple[bool, str]:
        """Whether the server answers a request for its start page, and the error when it does not."""
        try:
            self.run()
        except Exception as error:  # noqa: BLE001 -- whatever goes wrong is the answer
            return False, str(error)
        return True, "Connection successfully tested"


def _keep_alive_adapter(hook: HttpHook) -> Any:
    """Connections that notice when the other side is gone, even while nothing is said."""
    import socket

    adapters = library("requests.adapters", extra="http", needed_by="HttpHook")
    connection = library("urllib3.connection", extra="http", needed_by="HttpHook")
    options = [
        *connection.HTTPConnection.default_socket_options,
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, hook.keep_alive_idle),
        (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, hook.keep_alive_interval),
        (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, hook.keep_alive_count),
    ]
    adapter = adapters.HTTPAdapter()
    adapter.init_poolmanager(connections=10, maxsize=10, socket_options=options)
    return adapter


class HttpOperator(BaseOperator):
    """One request, or page after page. What the server answers is pushed as text, or what `response_filter(response)`
    makes of it. `response_check(response)` decides whether it is good. Both get entries of the context by name.
    `pagination_function(response)` gives the changed arguments of the next request (endpoint, data, headers,
    extra_options), or None after the last one; then all responses are handed on as a list."""

    conn_id_field: ClassVar[str] = "http_conn_id"
    template_fields: Sequence[str] = ("endpoint", "data", "headers", "http_conn_id")
    template_fields_renderers: ClassVar[dict[str, str]] = {"headers": "json", "data": "py"}
    template_ext: Sequence[str] = ()
    ui_color = "#f4a460"

    def __init__(
        self,
        *,
        endpoint: str | None = None,
        method: str = "POST",
        data: dict[str, Any] | str | None = None,
        headers: dict[str, str] | None = None,
        pagination_function: Callable[..., Any] | None = None,
        response_check: Callable[..., bool] | None = None,
        response_filter: Callable[..., Any] | None = None,
        extra_options: dict[str, Any] | None = None,
        request_kwargs: dict[str, Any] | None = None,
        http_conn_id: str = "http_default",
        log_response: bool = False,
        auth_type: Any = None,
        tcp_keep_alive: bool = True,
        tcp_keep_alive_idle: int = 120,
        tcp_keep_alive_count: int = 20,
        tcp_keep_alive_interval: int = 30,
        deferrable: bool = False,
        warn_on_non_idempotent: bool = True,
        retry_args: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.http_conn_id = http_conn_id
        self.method = method
        self.endpoint = endpoint
        self.headers = headers or {}
        self.data = data if data is not None else {}
        self.pagination_function = pagination_function
        self.response_check = response_check
        self.response_filter = response_filter
        self.extra_options = extra_options or {}
        self.request_kwargs = request_kwargs or {}
        self.log_response = log_response
        self.auth_type = auth_type
        self.tcp_keep_alive = tcp_keep_alive
        self.tcp_keep_alive_idle = tcp_keep_alive_idle
        self.tcp_keep_alive_count = tcp_keep_alive_count
        self.tcp_keep_alive_interval = tcp_keep_alive_interval
        self.deferrable = deferrable
        self.retry_args = retry_args

    @property
    def hook(self) -> HttpHook:
        return HttpHook(
            self.method,
            http_conn_id=self.http_conn_id,
            auth_type=self.auth_type,
            tcp_keep_alive=self.tcp_keep_alive,
            tcp_keep_alive_idle=self.tcp_keep_alive_idle,
            tcp_keep_alive_count=self.tcp_keep_alive_count,
            tcp_keep_alive_interval=self.tcp_keep_alive_interval,
        )

    def execute(self, context: Any) -> Any:
        self.log.info("Calling HTTP method")
        hook = self.hook
        response = self._request(hook, self.endpoint, self.data, self.headers, self.extra_options)
        if self.pagination_function is None:
            return self.process_response(context, response)
        pages = [response]
        while following := self.pagination_function(pages[-1]):
            pages.append(
                self._request(
                    hook,
                    following.get("endpoint", self.endpoint),
                    _merged(self.data, following.get("data")),
                    _merged(self.headers, following.get("headers")),
                    _merged(self.extra_options, following.get("extra_options")),
                )
            )
        return self.process_response(context, pages)

    def _request(self, hook: HttpHook, endpoint: str | None, data: Any, headers: Any, extra_options: Any) -> Any:
        if self.retry_args:
            return hook.run_with_advanced_retry(
                self.retry_args, endpoint, data, headers, extra_options, **self.request_kwargs
            )
        return hook.run(endpoint, data, headers, extra_options, **self.request_kwargs)

    def process_response(self, context: Any, response: Any) -> Any:
        """What is pushed for one response, or for a list of them."""
        texts: Any = [page.text for page in response] if isinstance(response, list) else response.text
        if self.log_response:
            self.log.info("%s", texts)
        if self.response_check is not None and not call_with_context(self.response_check, [response], {}, context):
            raise AirflowException("Response check returned False.")
        if self.response_filter is not None:
            return call_with_context(self.response_filter, [response], {}, context)
        return texts


SimpleHttpOperator = HttpOperator


def _merged(own: Any, following: Any) -> Any:
    """Dicts grow together, the following one wins; of texts the following one counts."""
    if following is None:
        return own
    if isinstance(own, dict) and isinstance(following, dict):
        return {
            **own,
            **{key: _merged(own.get(key), value) if isinstance(value, dict) else value
               for key, value in following.items()},
        }  # fmt: skip
    return following


class HttpSensor(BaseSensorOperator):
    """Waits until the server answers with a status below 400, and `response_check(response)` is true (it may return a
    PokeReturnValue). Statuses in `response_error_codes_allowlist` (404 without it) mean: not yet; others fail."""

    template_fields: Sequence[str] = ("endpoint", "request_params", "headers", "http_conn_id")

    def __init__(
        self,
        *,
        endpoint: str,
        http_conn_id: str = "http_default",
        method: str = "GET",
        request_params: dict[str, Any] | None = None,
        request_kwargs: dict[str, Any] | None = None,
        headers: dict[str, Any] | None = None,
        response_error_codes_allowlist: Sequence[str] | None = None,
        response_check: Callable[..., bool | PokeReturnValue] | None = None,
        extra_options: dict[str, Any] | None = None,
        tcp_keep_alive: bool = True,
        tcp_keep_alive_idle: int = 120,
        tcp_keep_alive_count: int = 20,
        tcp_keep_alive_interval: int = 30,
        deferrable: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.endpoint = endpoint
        self.http_conn_id = http_conn_id
        self.method = method
        self.request_params = request_params or {}
        self.request_kwargs = request_kwargs or {}
        self.headers = headers or {}
        allowed = ("404",) if response_error_codes_allowlist is None else response_error_codes_allowlist
        self.response_error_codes_allowlist = tuple(str(code) for code in allowed)
        self.response_check = response_check
        self.extra_options = extra_options or {}
        self.tcp_keep_alive = tcp_keep_alive
        self.tcp_keep_alive_idle = tcp_keep_alive_idle
        self.tcp_keep_alive_count = tcp_keep_alive_count
        self.tcp_keep_alive_interval = tcp_keep_alive_interval
        self.deferrable = deferrable

    @property
    def hook(self) -> HttpHook:
        return HttpHook(
            self.method,
            http_conn_id=self.http_conn_id,
            tcp_keep_alive=self.tcp_keep_alive,
            tcp_keep_alive_idle=self.tcp_keep_alive_idle,
            tcp_keep_alive_count=self.tcp_keep_alive_count,
            tcp_keep_alive_interval=self.tcp_keep_alive_interval,
        )

    def poke(self, context: Any) -> bool | PokeReturnValue:
        self.log.info("Poking: %s", self.endpoint)
        try:
            response = self.hook.run(
                self.endpoint,
                data=self.request_params,
                headers=self.headers,
                extra_options=self.extra_options,
                **self.request_kwargs,
            )
        except AirflowException as error:
            if str(error).startswith(self.response_error_codes_allowlist):
                return False
            raise
        if self.response_check is None:
            return True
        answer = call_with_context(self.response_check, [response], {}, context)
        return answer if isinstance(answer, PokeReturnValue) else bool(answer)
