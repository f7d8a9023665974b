"""The bundled core behind the verbs. Each part is imported when a verb asks for it: the watchdog pays for no ORM."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from opskit.config import Config

if TYPE_CHECKING:
    from opskit.platforms.airflow import MovingIn
    from opskit.platforms.base import Audit, DagFiles
    from opskit.platforms.configuration import Configuration
    from opskit.platforms.dag_facts import DagFactsReader
    from opskit.platforms.dag_versions import DagVersions
    from opskit.platforms.diagnosis import Diagnosis
    from opskit.platforms.folders import Folders
    from opskit.platforms.health import Health, Services
    from opskit.platforms.metastore import Metastore
    from opskit.platforms.retention import Retention
    from opskit.platforms.secret_keys import SecretKeys


@dataclass(frozen=True)
class CorePlatform:
    config: Config
    name: str = "opskit"

    @property
    def health(self) -> Health:
        from opskit.platforms.core.health import CoreHealth

        return CoreHealth(self.config)

    @property
    def services(self) -> Services:
        from opskit.platforms.core.services import CoreServices

        return CoreServices(self.config)

    @property
    def metastore(self) -> Metastore:
        from opskit.platforms.core.metastore import CoreMetastore

        return CoreMetastore(self.config)

    @property
    def folders(self) -> Folders:
        from opskit.platforms.core.folders import CoreFolders

        return CoreFolders(self.config)

    @property
    def retention(self) -> Retention:
        from opskit.platforms.core.retention import CoreRetention

        return CoreRetention(self.config)

    @property
    def dag_files(self) -> DagFiles:
        from opskit.platforms.core.dag_files import CoreDagFiles

        return CoreDagFiles(self.config)

    @property
    def dag_versions(self) -> DagVersions:
        from opskit.platforms.core.dag_versions import CoreDagVersions

        return CoreDagVersions(self.config)

    @property
    def dag_facts(self) -> DagFactsReader:
        from opskit.platforms.core.dag_facts import CoreDagFacts

        return CoreDagFacts(self.config)

    @property
    def audit(self) -> Audit:
        from opskit.platforms.core.audit import CoreAudit

        return CoreAudit(self.config)

    @property
    def diagnosis(self) -> Diagnosis:
        from opskit.platforms.core.diagnosis import CoreDiagnosis

        return CoreDiagnosis(self.config)

    @property
    def configuration(self) -> Configuration:
        from opskit.platforms.core.configuration import CoreConfiguration

        return CoreConfiguration(self.config)

    @property
    def secret_keys(self) -> SecretKeys:
        from opskit.platforms.core.secret_keys import CoreSecretKeys

        return CoreSecretKeys(self.config)

    @property
    def moving_in(self) -> MovingIn:
        from opskit.platforms.core.airflow import CoreMovingIn

        return CoreMovingIn(self.config)
