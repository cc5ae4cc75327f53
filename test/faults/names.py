"""Name servers that do as they are told."""

import collections
import contextlib
import socket
import threading

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

SERVFAIL, NXDOMAIN, SILENCE = dns.rcode.SERVFAIL, dns.rcode.NXDOMAIN, None


class Names:
    """Answers over UDP as answer(name, type) says: an rcode, SILENCE, or a list of records as text; delay(name) seconds later."""

    def __init__(self, run, answer, delay=lambda name: 0):
        self.answer, self.delay = answer, delay
        self.questions = collections.Counter()
        self.closed = False
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        run.defer(self.close)
        threading.Thread(target=self.serve, daemon=True).start()

    @property
    def endpoint(self):
        return f"127.0.0.1:{self.port}"

    def close(self):
        self.closed = True
        self.socket.close()

    def serve(self):
        while not self.closed:
            try:
                octets, client = self.socket.recvfrom(4096)
            except OSError:
                return
            question = dns.message.from_wire(octets)
            name = question.question[0].name.to_text().lower().rstrip(".")
            self.questions[name] += 1
            wait = self.delay(name)
            if wait:
                threading.Timer(wait, self.reply, (question, name, client)).start()
            else:
                self.reply(question, name, client)

    def reply(self, question, name, client):
        asked = question.question[0]
        answer = self.answer(name, dns.rdatatype.to_text(asked.rdtype))
        if answer is SILENCE:
            return
        response = dns.message.make_response(question, recursion_available=True)
        if isinstance(answer, list):
            if answer:
                response.answer.append(dns.rrset.from_text_list(asked.name, 60, "IN", asked.rdtype, answer))
        else:
            response.set_rcode(answer)
        with contextlib.suppress(OSError):
            self.socket.sendto(response.to_wire(), client)


class Forwarder:
    """Passes datagrams on to a server, from wherever the thread that makes it may call, and the answers back."""

    @staticmethod
    def listen(address):
        listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        listener.bind((address, 0))
        return listener

    def __init__(self, listener, server):
        self.listener, self.server, self.closed = listener, server, False
        self.port = listener.getsockname()[1]
        threading.Thread(target=self.serve, daemon=True).start()

    def close(self):
        self.closed = True
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def serve(self):
        while not self.closed:
            try:
                octets, client = self.listener.recvfrom(4096)
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as link:
                    link.settimeout(2)
                    link.sendto(octets, self.server)
                    self.listener.sendto(link.recv(4096), client)
            except TimeoutError:
                continue
            except OSError:
                if self.closed:
                    return


