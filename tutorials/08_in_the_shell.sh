#!/usr/bin/env bash
# Queues and channels from the shell: write, read, claims, dead letters, watch, subscribe.
#
# The command works on `.sssnbus.db` in the current directory, which the first message makes. Data goes to
# stdout, words to stderr, and the exit code says the rest: 0 done, 1 an error, 2 nothing there. So a loop over
# `read` ends by itself when the queue is empty. Python programs can open the same file:
# Bus("sqlite:///.sssnbus.db").
set -eu
cd "$(mktemp -d)"
trap 'rm -r "$PWD"' EXIT

echo '== A queue: each message is taken once'
sssnbus write photos cat.png
printf 'dog.png' | sssnbus write photos -
sssnbus peek photos                       # takes nothing
while photo=$(sssnbus read photos); do
    echo "resizing $photo"
done

echo '== A claim: hold a message while you work on it'
sssnbus write mail 'to: ada'
IFS=$'\t' read -r id token job < <(sssnbus claim mail --for 60)
echo "claimed [$job]"
sssnbus read mail || echo "nobody else gets it: exit code $?"
sssnbus nack mail "$id" "$token"          # it failed: somebody may try again
IFS=$'\t' read -r id token job < <(sssnbus claim mail --for 60)
sssnbus ack mail "$id" "$token"           # it is done
sssnbus stats mail

echo '== Dead letters: what failed too often'
sssnbus write mail 'to: nobody'
for attempt in 1 2 3 4 5; do
    IFS=$'\t' read -r id token job < <(sssnbus claim mail --for 60)
    sssnbus nack mail "$id" "$token" --error 'no such address'
done
sssnbus dead mail peek
sssnbus dead mail redrive --all           # mended: try again
sssnbus read mail

echo '== Queues can be watched, from the first message on'
(sssnbus --quiet watch orders & echo $! > watcher) > shown
sssnbus write orders 'one teapot'
until grep -q teapot shown; do sleep 0.1; done
kill "$(cat watcher)"                     # SIGTERM and Ctrl-C end it, exit code 0
cat shown

echo '== A channel: everybody gets every message'
sssnbus publish news 'ada came' --topic user.login
sssnbus publish news 'disk full' --topic disk.full
sssnbus subscribe news --start earliest --topic 'user.*' --count 1
# With a name the place is kept: the next one with that name goes on where this one ended.
sssnbus subscribe news --name mailer --start earliest --count 1 --exec 'echo "mailing: $(cat)"'
sssnbus subscribe news --name mailer --count 1

echo '== The store as a whole'
sssnbus list --stats
sssnbus dump > backup.ndjson
sssnbus -f copy.db load backup.ndjson 2> /dev/null
sssnbus -f copy.db history news
