"""MariaDB and MySQL: the server of this machine, and how its administrator gets in.

Takes the configuration; looks for a socket or a data folder. tklb.databases lists the stages that the modules are.
"""

import os
import shutil
import stat
from configparser import RawConfigParser
from typing import TYPE_CHECKING

from tklb.base.process import PATH, run
from tklb.config.schema import DatabaseConfig
from tklb.databases.foreign_servers import Container, parse_container
from tklb.errors import DatabaseFailed, ProgramFailed, ProgramMissing
from tklb.lazy_dataclass import dataclass
from tklb.model.databases import MARIADB
from tklb.model.secret import Secret

if TYPE_CHECKING:
    from tklb.databases.mariadb.server import Server

__all__ = ["Login", "find_program", "find_server"]

ENGINE = MARIADB.word
SOCKETS = ("/run/mysqld/mysqld.sock", "/var/lib/mysql/mysql.sock")
DATA = "/var/lib/mysql"
CLIENT_PROGRAMS = MARIADB.services  # they have the same names
DUMP_PROGRAMS = ("mariadb-dump", "mysqldump")
_SECONDS = 180  # to start a service


@dataclass(frozen=True, slots=True)
class Login:
    """How the administrator gets in: by a defaults file, or as root by the socket.

    `lock_seconds` is how long a statement waits for what somebody else has locked. `read_back`: loaded rows are
    compared with the dump.
    """

    socket: str
    defaults_file: str = ""
    lock_seconds: int = 60
    read_back: bool = True
    instance: str = ""  # empty for the default server
    container: Container | None = None  # that it runs in

    def list_options(self) -> list[str]:
        """The options that let a client program in; no secret is among them."""
        if self.container:
            user = self.read_option("user") or "root"
            return ["--no-defaults", f"--user={user}", "--protocol=socket", f"--socket={SOCKETS[0]}"]
        if self.defaults_file:
            return [f"--defaults-file={self.defaults_file}"]
        return ["--no-defaults", "--user=root", "--protocol=socket", f"--socket={self.socket}"]

    @property
    def group_suffix(self) -> str:
        """What the names of its groups in option files end with: [mariadbd.NAME], or [mysqldN] of mysqld_multi."""
        return self.instance if not self.instance or self.instance.isdecimal() else f".{self.instance}"

    def make_command(self, program: str) -> list[str]:
        """A client program with the options that let it in."""
        command = [program, *self.list_options()]
        return self.container.enter(command, *self.environment) if self.container else command

    def find_client(self, *names: str) -> str:
        """The first of these programs where the clients of this server run; empty where there is none."""
        return self.container.find_program(*names) if self.container else find_program(*names)

    def find_dump_program(self, version: str) -> str:
        """The program that dumps the rows of a server of this version; empty where tklb reads them itself.

        MariaDB's program fails with MySQL, and MySQL's own does not write a row on a line.
        """
        return "" if version.startswith("MySQL") else self.find_client(*DUMP_PROGRAMS)

    @property
    def environment(self) -> dict[str, Secret]:
        """What a client program gets beside: the password for a container, which cannot see the file that has it."""
        password = self.read_option("password") if self.container else ""
        return {"MYSQL_PWD": Secret(password)} if password else {}

    def read_option(self, name: str) -> str:
        """A word of the option file for a container."""
        options = RawConfigParser(strict=False, allow_no_value=True)
        if self.container and self.container.login_file:
            options.read(self.container.login_file)
        return options.get("client", name, fallback="").strip("'\"")

    def open_socket(self) -> str:
        """The path of the socket for this process. Raises DatabaseFailed where it is in a container that is down."""
        return self.container.open_socket(SOCKETS[0]) if self.container else self.socket

    def start(self) -> None:
        """Start the server by its service; make the data of an instance that has none. Raises DatabaseFailed."""
        if self.container:
            self.container.refuse("tklb starts no container")
        has_systemd = os.path.isdir("/run/systemd/system")
        if self.instance:
            from tklb.databases.mariadb.new_instance import start_instance

            start_instance(self)
            return
        scripts = [name for name in MARIADB.services if has_systemd or os.access(f"/etc/init.d/{name}", os.X_OK)]
        reason = "no service starts it"
        for name in scripts:
            command = ["systemctl", "start", "--", f"{name}.service"] if has_systemd else ["service", name, "start"]
            try:
                run(command, timeout=_SECONDS)
                return
            except (ProgramFailed, ProgramMissing) as exc:
                reason = str(exc)
        raise DatabaseFailed(item=ENGINE, reason=reason)


def find_server(config: DatabaseConfig, name: str = "", login_file: str = "") -> "Server | None":
    """Find the default server, or the one called `name`, whether it runs or not; None where there is none.

    `login_file` is the option file of a configured server.
    """
    if name:
        return _find_instance(config, name, login_file)
    login = find_login(config)
    if not login.defaults_file and not is_socket(login.socket) and not _has_data():
        return None
    from tklb.databases.mariadb.server import Server

    return Server(login)


def find_login(config: DatabaseConfig) -> Login:
    """Give how the administrator gets into the server, whether it runs or not."""
    from tklb.databases.mariadb.locations import read_options

    sockets = [name for name in SOCKETS if is_socket(name)]
    socket = sockets[0] if sockets else read_options().get("socket", SOCKETS[0])
    return Login(socket, config.mysql_defaults_file, config.lock_seconds, config.read_back)


def _has_data() -> bool:
    from tklb.databases.mariadb.locations import is_data_folder, read_options

    return os.path.isdir(f"{DATA}/mysql") or is_data_folder(read_options().get("datadir", DATA))


def _find_instance(config: DatabaseConfig, name: str, login: str) -> "Server | None":
    from tklb.databases.mariadb.instances import find_instances
    from tklb.databases.mariadb.server import Server

    if container := parse_container(login):
        return Server(Login("", "", config.lock_seconds, config.read_back, name, container))
    socket = "" if login else find_instances(config.mysql_defaults_file).get(name, {}).get("socket", "")
    if not login and not socket:
        return None
    return Server(Login(socket, login, config.lock_seconds, config.read_back, name))


def find_program(*names: str) -> str:
    """The first of these programs that is installed; empty where none is."""
    return next((name for name in names if shutil.which(name, path=PATH)), "")


def is_socket(name: str) -> bool:
    try:
        return stat.S_ISSOCK(os.stat(name).st_mode)
    except OSError:
        return False
