"""The broker as untrusted transport: MQTT 3.1.1, clean sessions, QoS 1, and the way back after every loss.

A PUBACK says that the broker has a message, never that it is kept: what must not be lost is published again until a
vote answers it, so every message is idempotent. Three rules bound what a broker, or a stranger on it, can do here:

    flow    a message is acknowledged when it is taken out of the inbox, so the broker's window of unacknowledged
            messages holds back the rest, while acknowledgements of our own messages keep coming in; a broker that
            does not wait (NATS, with what it has retained) is not read while the inbox is full
    QoS 0   has no such window, and nobody honest sends it: refused
    size    a message over MESSAGE_LIMIT_BYTES is refused, coming in or going out; a packet that announces four times
            that ends the connection before it is read

`connection` alone knows aiomqtt and paho. No task is made here; aiomqtt makes one a connection, for keep-alive.
"""

from gateway.io.mqtt.broker import Broker, Tls
from gateway.io.mqtt.connection import MESSAGE_LIMIT_BYTES, Message
from gateway.io.mqtt.link import Inbox, Link
from gateway.io.mqtt.outbox import Outbox, Outgoing

__all__ = ["MESSAGE_LIMIT_BYTES", "Broker", "Inbox", "Link", "Message", "Outbox", "Outgoing", "Tls"]
