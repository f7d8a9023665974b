"""The commands of FTP that the hook uses, over a folder: no more than a test needs."""

from __future__ import annotations

import shutil
import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path


class Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, root: Path) -> None:
        self.root = root
        self.login = ("ada", "pw")
        self.broken = ""
        """What every command but those of the login is answered, when it is not empty."""
        super().__init__(("127.0.0.1", 0), _Session)

    @property
    def port(self) -> int:
        return int(self.server_address[1])


class _Session(socketserver.StreamRequestHandler):
    server: Server

    def handle(self) -> None:
        self.data: socket.socket | None = None
        self.source = ""
        self.user = ""
        self.say("220 ready")
        for line in self.rfile:
            command, _, argument = line.decode().strip().partition(" ")
            if command == "QUIT":
                self.say("221 bye")
                return
            try:
                self.serve(command, argument)
            except OSError as error:
                self.say(f"550 {error.strerror}")

    def say(self, text: str) -> None:
        self.wfile.write(text.encode() + b"\r\n")

    def path(self, argument: str) -> Path:
        return self.server.root / argument.lstrip("/")

    def serve(self, command: str, argument: str) -> None:
        if command == "USER":
            self.user = argument
            self.say("331 password?")
        elif command == "PASS":
            self.say("230 in" if (self.user, argument) == self.server.login else "530 no")
        elif self.server.broken:
            self.say(self.server.broken)
        elif command == "PASV":
            self.data = socket.create_server(("127.0.0.1", 0))
            port = self.data.getsockname()[1]
            self.say(f"227 (127,0,0,1,{port // 256},{port % 256})")
        elif command == "EPSV":
            self.say("502 no")
        elif command in ("RETR", "STOR", "NLST", "MLSD"):
            self.transfer(command, self.path(argument))
        elif command == "SIZE":
            self.say(f"213 {self.path(argument).stat().st_size}")
        elif command == "MDTM":
            moment = datetime.fromtimestamp(self.path(argument).stat().st_mtime, UTC)
            self.say(f"213 {moment:%Y%m%d%H%M%S}")
        elif command == "MKD":
            self.path(argument).mkdir()
            self.say(f'257 "{argument}"')
        elif command == "RMD":
            self.path(argument).rmdir()
            self.say("250 done")
        elif command == "DELE":
            self.path(argument).unlink()
            self.say("250 done")
        elif command == "RNFR":
            self.source = argument
            self.say("350 to?")
        elif command == "RNTO":
            self.path(self.source).rename(self.path(argument))
            self.say("250 done")
        elif command == "PWD":
            self.say('257 "/"')
        else:
            self.say("200 done" if command == "TYPE" else "502 no")

    def transfer(self, command: str, path: Path) -> None:
        assert self.data is not None
        with self.data:
            if command == "RETR":
                path.stat()
            self.say("150 here it comes")
            with self.data.accept()[0] as conversation, conversation.makefile("rwb") as stream:
                if command == "STOR":
                    with path.open("wb") as file:
                        shutil.copyfileobj(stream, file)
                elif command == "RETR":
                    stream.write(path.read_bytes())
                else:
                    for entry in sorted(path.iterdir()):
                        facts = f"type={'dir' if entry.is_dir() else 'file'};size={entry.stat().st_size}; "
                        stream.write(((facts if command == "MLSD" else "") + entry.name + "\r\n").encode())
        self.say("226 done")


@contextmanager
def ftp_server(root: Path) -> Iterator[Server]:
    server = Server(root)
    thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.01))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
