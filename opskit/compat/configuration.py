"""What `airflow.configuration` offers: `conf`, over opskit's settings where these have the thing, else over the section
of an airflow.cfg that lies in OPSKIT_HOME, else Airflow's default.

An environment variable AIRFLOW__SECTION__KEY (or OPSKIT__…) stands before all of them."""

from __future__ import annotations

import json
import os
from functools import cached_property
from typing import Any

from opskit.compat.exceptions import AirflowConfigException

__all__ = [
    "AIRFLOW_CONFIG",
    "AIRFLOW_HOME",
    "AirflowConfigException",
    "AirflowConfigParser",
    "AirflowSDKConfigParser",
    "as_dict",
    "conf",
    "ensure_secrets_loaded",
    "expand_env_var",
    "get",
    "get_airflow_config",
    "get_airflow_home",
    "getboolean",
    "getfloat",
    "getint",
    "getlist",
    "has_option",
    "initialize_secrets_backends",
]

_MOVED = {
    ("core", "base_log_folder"): ("logging", "base_log_folder"),
    ("core", "logging_level"): ("logging", "logging_level"),
    ("core", "sql_alchemy_conn"): ("database", "sql_alchemy_conn"),
    ("core", "sql_alchemy_pool_size"): ("database", "sql_alchemy_pool_size"),
    ("core", "dag_concurrency"): ("core", "max_active_tasks_per_dag"),
    ("core", "secret_key"): ("webserver", "secret_key"),
    ("core", "remote_logging"): ("logging", "remote_logging"),
    ("core", "remote_log_conn_id"): ("logging", "remote_log_conn_id"),
    ("core", "remote_base_log_folder"): ("logging", "remote_base_log_folder"),
    ("core", "log_format"): ("logging", "log_format"),
    ("scheduler", "max_threads"): ("scheduler", "parsing_processes"),
    ("scheduler", "parsing_processes"): ("dag_processor", "parsing_processes"),
    ("scheduler", "min_file_process_interval"): ("dag_processor", "min_file_process_interval"),
    ("scheduler", "dag_dir_list_interval"): ("dag_processor", "refresh_interval"),
    ("kubernetes", "namespace"): ("kubernetes_executor", "namespace"),
    ("kubernetes", "in_cluster"): ("kubernetes_executor", "in_cluster"),
    ("kubernetes", "worker_container_repository"): ("kubernetes_executor", "worker_container_repository"),
    ("kubernetes", "worker_container_tag"): ("kubernetes_executor", "worker_container_tag"),
    ("kubernetes", "delete_worker_pods"): ("kubernetes_executor", "delete_worker_pods"),
}
"""Names that Airflow has given up → those that it has now."""
_OURS = {
    ("dag_processor", "parsing_processes"): "scheduler.parsing_processes",
    ("dag_processor", "min_file_process_interval"): "scheduler.min_file_process_interval",
    ("dag_processor", "refresh_interval"): "scheduler.refresh_interval",
    ("dag_processor", "dag_file_processor_timeout"): "core.dagbag_import_timeout",
}
"""Names of Airflow → the setting of ours that is meant."""
_TRUE = ("t", "true", "1", "yes", "on")
_FALSE = ("f", "false", "0", "no", "off")
_NOT_GIVEN: Any = object()
AIRFLOW_HOME: str
AIRFLOW_CONFIG: str


class AirflowConfigParser:
    """Settings by section and key, as texts; case does not matter."""

    def get(self, section: str, key: str, fallback: Any = _NOT_GIVEN, **_: Any) -> Any:
        """The value as text; the fallback (else AirflowConfigException) for one that nobody knows."""
        found = self._find(section, key)
        if found is not None:
            return found
        if fallback is not _NOT_GIVEN:
            return fallback
        raise AirflowConfigException(f"section/key [{section.lower()}/{key.lower()}] not found in config")

    def get_mandatory_value(self, section: str, key: str, **kwargs: Any) -> str:
        """As `get`; ValueError for one that is None."""
        value = self.get(section, key, **kwargs)
        if value is None:
            raise ValueError(f"the setting [{section}] {key} must have a value")
        return str(value)

    def get_mandatory_list_value(self, section: str, key: str, **kwargs: Any) -> list[str]:
        value = self.getlist(section, key, **kwargs)
        if value is None:
            raise ValueError(f"the setting [{section}] {key} must have a value")
        return list(value)

    def getboolean(self, section: str, key: str, **kwargs: Any) -> Any:
        """True or False; AirflowConfigException for a text that is neither."""
        value = self.get(section, key, **kwargs)
        if not isinstance(value, str):
            return value
        word = value.partition("#")[0].strip().lower()
        if word in _TRUE:
            return True
        if word in _FALSE:
            return False
        raise AirflowConfigException(f"[{section}] {key} is {value!r}, no boolean")

    def getint(self, section: str, key: str, **kwargs: Any) -> Any:
        return self._number(int, section, key, kwargs)

    def getfloat(self, section: str, key: str, **kwargs: Any) -> Any:
        return self._number(float, section, key, kwargs)

    def getlist(self, section: str, key: str, delimiter: str = ",", **kwargs: Any) -> Any:
        """The parts of a text between commas; an empty text is an empty list."""
        value = self.get(section, key, **kwargs)
        if not isinstance(value, str):
            return value
        return [part.strip() for part in value.split(delimiter) if part.strip()]

    def getjson(self, section: str, key: str, fallback: Any = None, **_: Any) -> Any:
        value = self.get(section, key, fallback=None)
        if not value:
            return fallback
        try:
            return json.loads(value) if isinstance(value, str) else value
        except ValueError as error:
            raise AirflowConfigException(f"[{section}] {key} is no JSON: {error}") from error

    def gettimedelta(self, section: str, key: str, fallback: Any = None, **_: Any) -> Any:
        """A number of seconds, as a timedelta."""
        from datetime import timedelta

        value = self.get(section, key, fallback=None)
        return fallback if value in (None, "") else timedelta(seconds=self._number(float, section, key, {}))

    def getimport(self, section: str, key: str, **kwargs: Any) -> Any:
        """What the value names: a path to a class or function. None for an empty one."""
        from opskit.compat.modules_by_name import import_string

        value = self.get(section, key, **kwargs)
        if not value:
            return None
        try:
            return import_string(str(value))
        except ImportError as error:
            raise AirflowConfigException(f"[{section}] {key}: {error}") from error

    def getenum(self, section: str, key: str, enum_class: Any, **kwargs: Any) -> Any:
        value = self.get(section, key, **kwargs)
        try:
            return enum_class[value] if isinstance(value, str) else value
        except KeyError as error:
            raise AirflowConfigException(f"[{section}] {key} is {value!r}, not one of {list(enum_class)}") from error

    def has_option(self, section: str, option: str, **_: Any) -> bool:
        return self._find(section, option) is not None

    def has_section(self, section: str) -> bool:
        return self.getsection(section) is not None

    def getsection(self, section: str) -> dict[str, Any] | None:
        """All known keys of a section, numbers and booleans as such; None when there is no such section."""
        name = section.lower()
        keys = dict.fromkeys(self._defaults.get(name, {}))
        keys.update(dict.fromkeys(self._file.get(name, {})))
        prefix = f"{name}."
        keys.update({setting[len(prefix) :]: None for setting in self._config.values if setting.startswith(prefix)})
        for part in ("AIRFLOW__", "OPSKIT__"):
            start = f"{part}{section.upper()}__"
            keys.update({variable[len(start) :].lower(): None for variable in os.environ if variable.startswith(start)})
        return {key: _typed(self.get(section, key, fallback=None)) for key in keys} if keys else None

    def sections(self) -> list[str]:
        ours = {name.partition(".")[0] for name in self._config.values}
        return sorted({*self._defaults, *self._file, *ours})

    def options(self, section: str) -> list[str]:
        return sorted(self.getsection(section) or {})

    def items(self, section: str) -> list[tuple[str, Any]]:
        return sorted((self.getsection(section) or {}).items())

    def as_dict(self, *_: Any, **__: Any) -> dict[str, dict[str, Any]]:
        """All of it, secrets left out."""
        from opskit.core.dag.secret_names import is_secret_name

        return {
            section: {
                key: "< hidden >" if is_secret_name(key) or key == "sql_alchemy_conn" else value
                for key, value in self.items(section)
            }
            for section in self.sections()
        }

    def get_default_value(self, section: str, key: str, fallback: Any = None, **_: Any) -> Any:
        """Airflow's own default."""
        return self._defaults.get(section.lower(), {}).get(key.lower(), fallback)

    def set(self, section: str, option: str, value: str | None = None) -> None:
        """For this process."""
        self._changed[section.lower(), option.lower()] = "" if value is None else str(value)

    def add_section(self, section: str) -> None:
        self._file.setdefault(section.lower(), {})

    def remove_option(self, section: str, option: str, **_: Any) -> bool:
        changed = self._changed.pop((section.lower(), option.lower()), None)
        written = self._file.get(section.lower(), {}).pop(option.lower(), None)
        return changed is not None or written is not None

    @cached_property
    def _config(self) -> Any:
        from opskit import config

        return config.load()

    @cached_property
    def _defaults(self) -> dict[str, dict[str, str]]:
        from opskit.compat.airflow_defaults import DEFAULTS

        found: dict[str, dict[str, str]] = {}
        section = ""
        for line in DEFAULTS.splitlines():
            if line.startswith("["):
                section = line[1:-1]
            elif line:
                key, _, value = line.partition(" =")
                found.setdefault(section, {})[key] = value.strip().replace("{AIRFLOW_HOME}", str(self._config.home))
        return found

    @cached_property
    def _file(self) -> dict[str, dict[str, str]]:
        """What an airflow.cfg in OPSKIT_HOME says."""
        from configparser import ConfigParser
        from configparser import Error as ParserError

        parser = ConfigParser(interpolation=None, strict=False, default_section="\0")
        try:
            parser.read(get_airflow_config(str(self._config.home)), encoding="utf-8")
        except (ParserError, UnicodeDecodeError) as error:
            raise AirflowConfigException(f"airflow.cfg can't be read: {error}") from error
        return {name.lower(): dict(parser.items(name)) for name in parser.sections()}

    @cached_property
    def _changed(self) -> dict[tuple[str, str], str]:
        return {}

    def _find(self, section: str, key: str) -> str | None:
        section, key = section.lower(), key.lower()
        found = self._find_as_written(section, key)
        current = _MOVED.get((section, key))
        return self._find_as_written(*current) if found is None and current is not None else found

    def _find_as_written(self, section: str, key: str) -> str | None:
        if (section, key) in self._changed:
            return self._changed[section, key]
        for prefix in ("OPSKIT__", "AIRFLOW__"):
            value = os.environ.get(f"{prefix}{section.upper().replace('.', '_')}__{key.upper()}")
            if value is not None:
                return value
        ours = self._config.values
        name = _OURS.get((section, key), f"{section}.{key}")
        if name in ours:
            return _text(ours[name])
        value = self._file.get(section, {}).get(key)
        return value if value is not None else self._defaults.get(section, {}).get(key)

    def _number(self, kind: type, section: str, key: str, kwargs: dict[str, Any]) -> Any:
        value = self.get(section, key, **kwargs)
        if not isinstance(value, str):
            return value
        try:
            return kind(value.strip())
        except ValueError as error:
            raise AirflowConfigException(f"[{section}] {key} is {value!r}, no number") from error


AirflowSDKConfigParser = AirflowConfigParser


def _text(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _typed(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if value in ("True", "true", "False", "false"):
        return value in ("True", "true")
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            continue
    return value


conf = AirflowConfigParser()

get = conf.get
getboolean = conf.getboolean
getfloat = conf.getfloat
getint = conf.getint
getlist = conf.getlist
has_option = conf.has_option
as_dict = conf.as_dict


def get_airflow_home() -> str:
    """OPSKIT_HOME."""
    from opskit import config

    return str(config.default_home())


def get_airflow_config(airflow_home: str) -> str:
    """The airflow.cfg that is read, where there is one."""
    return os.path.join(airflow_home, "airflow.cfg")


def expand_env_var(env_var: str | None) -> str | None:
    """The text with ~ and $VARIABLES put in."""
    return os.path.expanduser(os.path.expandvars(env_var)) if env_var else env_var


def ensure_secrets_loaded(*_: Any, **__: Any) -> list[Any]:
    """The backends that are asked for connections and variables before the metastore."""
    from opskit.core.dag import secrets_backends

    return secrets_backends.backends()


initialize_secrets_backends = ensure_secrets_loaded


def __getattr__(name: str) -> Any:
    if name == "AIRFLOW_HOME":
        return get_airflow_home()
    if name == "AIRFLOW_CONFIG":
        return get_airflow_config(get_airflow_home())
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
