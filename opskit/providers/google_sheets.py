"""Google Sheets: GSheetsHook, and operators that read and make spreadsheets. Over Google's API client
(`opskit[google]`)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar

from opskit.core.dag.base_operator import BaseOperator
from opskit.core.dag.exceptions import AirflowException
from opskit.core.dag.hooks.base import BaseHook
from opskit.providers.optional import library

SCOPES = ("https://www.googleapis.com/auth/spreadsheets", "https://www.googleapis.com/auth/drive")
_RETRIES = 5


class GSheetsHook(BaseHook):
    """Values of spreadsheets. The connection's extras: keyfile_dict (the service account's JSON, an object or its
    text), key_path (its file), scope (with commas), num_retries; without a key Google's own default credentials are
    taken.

    A range is `Sheet!A1:C3`; values are lists of rows."""

    conn_name_attr: ClassVar[str] = "gcp_conn_id"
    default_conn_name: ClassVar[str] = "google_cloud_default"
    conn_type: ClassVar[str] = "google_cloud_platform"
    hook_name: ClassVar[str] = "Google Cloud"

    def __init__(
        self,
        gcp_conn_id: str = default_conn_name,
        api_version: str = "v4",
        impersonation_chain: str | Sequence[str] | None = None,
        api_endpoint: str | None = None,
    ) -> None:
        super().__init__()
        if impersonation_chain:
            raise AirflowException(
                "impersonation_chain is not supported: put the account's own key into the connection"
            )
        self.gcp_conn_id = gcp_conn_id
        self.api_version = api_version
        self.api_endpoint = api_endpoint

    @cached_property
    def _extra(self) -> dict[str, Any]:
        # Airflow's forms write the long names.
        found = self.get_connection(self.gcp_conn_id).extra_dejson
        return {name.removeprefix("extra__google_cloud_platform__"): value for name, value in found.items()}

    @property
    def num_retries(self) -> int:
        return int(self._extra.get("num_retries", _RETRIES))

    def get_credentials(self) -> Any:
        """Google's credentials of the connection."""
        scope = self._extra.get("scope")
        scopes = [part.strip() for part in scope.split(",")] if scope else list(SCOPES)
        key = self._extra.get("keyfile_dict")
        path = self._extra.get("key_path")
        if key and path:
            raise AirflowException(f"connection {self.gcp_conn_id}: keyfile_dict and key_path exclude each other")
        accounts = library("google.oauth2.service_account", extra="google", needed_by="GSheetsHook")
        if key:
            info = json.loads(key) if isinstance(key, str) else dict(key)
            # Forms double the backslashes of line ends.
            info["private_key"] = info.get("private_key", "").replace("\\n", "\n")
            return accounts.Credentials.from_service_account_info(info, scopes=scopes)
        if path:
            return accounts.Credentials.from_service_account_file(path, scopes=scopes)
        credentials, _ = library("google.auth", extra="google", needed_by="GSheetsHook").default(scopes=scopes)
        return credentials

    @cached_property
    def _service(self) -> Any:
        build = library("googleapiclient.discovery", extra="google", needed_by="GSheetsHook").build
        options = {"client_options": {"api_endpoint": self.api_endpoint}} if self.api_endpoint else {}
        return build("sheets", self.api_version, credentials=self.get_credentials(), cache_discovery=False, **options)

    def get_conn(self) -> Any:
        """The service of Google's API client: `.spreadsheets()`."""
        return self._service

    def _values(self) -> Any:
        return self.get_conn().spreadsheets().values()

    def _run(self, request: Any) -> dict[str, Any]:
        answer: dict[str, Any] = request.execute(num_retries=self.num_retries)
        return answer

    def get_values(
        self,
        spreadsheet_id: str,
        range_: str,
        major_dimension: str = "DIMENSION_UNSPECIFIED",
        value_render_option: str = "FORMATTED_VALUE",
        date_time_render_option: str = "SERIAL_NUMBER",
    ) -> list[Any]:
        """The values of a range; empty cells at the end of a row are left out."""
        answer = self._run(
            self._values().get(
                spreadsheetId=spreadsheet_id,
                range=range_,
                majorDimension=major_dimension,
                valueRenderOption=value_render_option,
                dateTimeRenderOption=date_time_render_option,
            )
        )
        return list(answer.get("values", []))

    def batch_get_values(
        self,
        spreadsheet_id: str,
        ranges: list[str],
        major_dimension: str = "DIMENSION_UNSPECIFIED",
        value_render_option: str = "FORMATTED_VALUE",
        date_time_render_option: str = "SERIAL_NUMBER",
    ) -> dict[str, Any]:
        """What the API answers for several ranges: `valueRanges`."""
        return self._run(
            self._values().batchGet(
                spreadsheetId=spreadsheet_id,
                ranges=ranges,
                majorDimension=major_dimension,
                valueRenderOption=value_render_option,
                dateTimeRenderOption=date_time_render_option,
            )
        )

    def update_values(
        self,
        spreadsheet_id: str,
        range_: str,
        values: list[Any],
        major_dimension: str = "ROWS",
        value_input_option: str = "RAW",
        include_values_in_response: bool = False,
        value_render_option: str = "FORMATTED_VALUE",
        date_time_render_option: str = "SERIAL_NUMBER",
    ) -> dict[str, Any]:
        """Write values into a range."""
        return self._run(
            self._values().update(
                spreadsheetId=spreadsheet_id,
                range=range_,
                valueInputOption=value_input_option,
                includeValuesInResponse=include_values_in_response,
                responseValueRenderOption=value_render_option,
                responseDateTimeRenderOption=date_time_render_option,
                body={"range": range_, "majorDimension": major_dimension, "values": values},
            )
        )

    def batch_update_values(
        self,
        spreadsheet_id: str,
        ranges: list[str],
        values: list[Any],
        major_dimension: str = "ROWS",
        value_input_option: str = "RAW",
        include_values_in_response: bool = False,
        value_render_option: str = "FORMATTED_VALUE",
        date_time_render_option: str = "SERIAL_NUMBER",
    ) -> dict[str, Any]:
        """Write values into several ranges."""
        if len(ranges) != len(values):
            raise AirflowException(
                f"'Ranges' and 'Lists' must be of equal length. 'Ranges' is of length: {len(ranges)} and "
                f"'Values' is of length: {len(values)}."
            )
        data = [
            {"range": name, "majorDimension": major_dimension, "values": rows}
            for name, rows in zip(ranges, values, strict=True)
        ]
        body = {
            "valueInputOption": value_input_option,
            "data": data,
            "includeValuesInResponse": include_values_in_response,
            "responseValueRenderOption": value_render_option,
            "responseDateTimeRenderOption": date_time_render_option,
        }
        return self._run(self._values().batchUpdate(spreadsheetId=spreadsheet_id, body=body))

    def append_values(
        self,
        spreadsheet_id: str,
        range_: str,
        values: list[Any],
        major_dimension: str = "ROWS",
        value_input_option: str = "RAW",
        insert_data_option: str = "OVERWRITE",
        include_values_in_response: bool = False,
        value_render_option: str = "FORMATTED_VALUE",
        date_time_render_option: str = "SERIAL_NUMBER",
    ) -> dict[str, Any]:
        """Write values below the table in a range."""
        return self._run(
            self._values().append(
                spreadsheetId=spreadsheet_id,
                range=range_,
                valueInputOption=value_input_option,
                insertDataOption=insert_data_option,
                includeValuesInResponse=include_values_in_response,
                responseValueRenderOption=value_render_option,
                responseDateTimeRenderOption=date_time_render_option,
                body={"range": range_, "majorDimension": major_dimension, "values": values},
            )
        )

    def clear(self, spreadsheet_id: str, range_: str) -> dict[str, Any]:
        """Empty a range."""
        return self._run(self._values().clear(spreadsheetId=spreadsheet_id, range=range_))

    def batch_clear(self, spreadsheet_id: str, ranges: list[str]) -> dict[str, Any]:
        return self._run(self._values().batchClear(spreadsheetId=spreadsheet_id, body={"ranges": ranges}))

    def get_spreadsheet(self, spreadsheet_id: str) -> dict[str, Any]:
        """What Google knows about a spreadsheet: `sheets`, `properties` …"""
        return self._run(self.get_conn().spreadsheets().get(spreadsheetId=spreadsheet_id))

    def get_sheet_titles(self, spreadsheet_id: str, sheet_filter: list[str] | None = None) -> list[str]:
        """The titles of its sheets; those in `sheet_filter`, where it is given."""
        titles = [str(sheet["properties"]["title"]) for sheet in self.get_spreadsheet(spreadsheet_id)["sheets"]]
        return [title for title in titles if not sheet_filter or title in sheet_filter]

    def create_spreadsheet(self, spreadsheet: dict[str, Any]) -> dict[str, Any]:
        """Make one; the answer has its spreadsheetId."""
        return self._run(self.get_conn().spreadsheets().create(body=spreadsheet))


class GSheetsValuesOperator(BaseOperator):
    """Push the values of a range as a list of rows. (Airflow has no operator for this.)"""

    template_fields: Sequence[str] = ("spreadsheet_id", "range_", "gcp_conn_id")

    def __init__(
        self, *, spreadsheet_id: str, range_: str, gcp_conn_id: str = "google_cloud_default",
        api_endpoint: str | None = None, **kwargs: Any,
    ) -> None:  # fmt: skip
        super().__init__(**kwargs)
        self.spreadsheet_id = spreadsheet_id
        self.range_ = range_
        self.gcp_conn_id = gcp_conn_id
        self.api_endpoint = api_endpoint

    def execute(self, context: Any) -> list[Any]:
        hook = GSheetsHook(gcp_conn_id=self.gcp_conn_id, api_endpoint=self.api_endpoint)
        return hook.get_values(spreadsheet_id=self.spreadsheet_id, range_=self.range_)


class GoogleSheetsCreateSpreadsheetOperator(BaseOperator):
    """Make a spreadsheet; its id and URL are pushed as spreadsheet_id and spreadsheet_url."""

    template_fields: Sequence[str] = ("spreadsheet",)

    def __init__(
        self,
        *,
        spreadsheet: dict[str, Any],
        gcp_conn_id: str = "google_cloud_default",
        impersonation_chain: str | Sequence[str] | None = None,
        api_endpoint: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.spreadsheet = spreadsheet
        self.gcp_conn_id = gcp_conn_id
        self.impersonation_chain = impersonation_chain
        self.api_endpoint = api_endpoint

    def execute(self, context: Any) -> dict[str, Any]:
        hook = GSheetsHook(
            self.gcp_conn_id, impersonation_chain=self.impersonation_chain, api_endpoint=self.api_endpoint
        )
        made = hook.create_spreadsheet(spreadsheet=self.spreadsheet)
        context["ti"].xcom_push(key="spreadsheet_id", value=made["spreadsheetId"])
        context["ti"].xcom_push(key="spreadsheet_url", value=made["spreadsheetUrl"])
        return made
