//! A cache with every type a server has, in each of its encodings: small and large, numbers and text, binary and empty names,
//! several databases, keys and fields that expire, functions, streams with groups.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::servers::{RedisClient, RedisServer};

/// Databases that hold keys after [`load`].
pub const DATABASES: [u32; 4] = [0, 1, 3, 15];

type Command = Vec<Vec<u8>>;

fn words(text: &str) -> Command {
    text.split(' ').map(|word| word.as_bytes().to_vec()).collect()
}

fn command(name: &str, key: &str, rest: impl IntoIterator<Item = Vec<u8>>) -> Command {
    let mut words = vec![name.as_bytes().to_vec(), key.as_bytes().to_vec()];
    words.extend(rest);
    words
}

/// Text that does not compress well, always the same for a number.
fn noise(seed: usize, bytes: usize) -> Vec<u8> {
    let mut state = seed as u64 * 2_654_435_761 + 88_172_645_463_325_252;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[3]
    };
    (0..bytes).map(|_| next()).collect()
}

/// Fills the server. What the server does not have is left out.
pub fn load(server: &RedisServer) {
    let mut client = server.client();
    for database in DATABASES {
        client.send(&[b"SELECT", database.to_string().as_bytes()]);
        let mut commands = strings();
        commands.extend(collections());
        commands.extend(sorted());
        commands.extend(expiring());
        run(&mut client, &commands);
        streams(&mut client);
        fields_that_expire(server, &mut client);
    }
    client.send(&[b"SELECT", b"0"]);
    let library = b"#!lua name=shop\nredis.register_function('double', function(keys, args) return redis.call('SET', keys[1], args[1] * 2) end)";
    client.send(&[b"FUNCTION", b"LOAD", b"REPLACE", library]);
    let other = b"#!lua name=quiet\nredis.register_function{function_name='nothing', callback=function() return 1 end, flags={'no-writes'}}";
    client.send(&[b"FUNCTION", b"LOAD", b"REPLACE", other]);
}

#[track_caller]
fn run(client: &mut RedisClient, commands: &[Command]) {
    for (answer, command) in client.pipeline(commands).into_iter().zip(commands) {
        if let Err(error) = answer {
            let words: Vec<_> = command
                .iter()
                .take(4)
                .map(|word| String::from_utf8_lossy(word))
                .collect();
            panic!("{words:?}: {error}");
        }
    }
}

fn strings() -> Vec<Command> {
    let mut commands = vec![
        words("SET text hello"),
        command("SET", "", [b"the empty name".to_vec()]),
        command("SET", "empty value", [Vec::new()]),
        command("SET", "large", [noise(1, 300_000)]),
        command("SET", "compressible", [b"abcabcabd".repeat(20_000)]),
        command(
            "SET",
            "looks like a mark",
            [b"6e65c56fe449c8e6ba10bbdf56749b6f7f660e8a".repeat(3)],
        ),
        command("APPEND", "appended", [noise(2, 50)]),
        words("SETBIT bitmap 100000 1"),
        words("SETRANGE range 20 end"),
        words("PFADD visitors a b c d e f g"),
    ];
    commands.push(command(
        "PFADD",
        "many visitors",
        (0..3000).map(|n| format!("visitor {n}").into_bytes()),
    ));
    for number in [
        "0",
        "-1",
        "127",
        "128",
        "-129",
        "32768",
        "70000",
        "2147483648",
        "-9223372036854775808",
        "1.5",
        "007",
    ] {
        commands.push(words(&format!("SET number:{number} {number}")));
    }
    commands.push(vec![
        b"SET".to_vec(),
        vec![0, 255, b'\r', b'\n', b'$'],
        vec![0, 1, 2, 254],
    ]);
    commands.push(vec![
        b"SET".to_vec(),
        "имя ключа 🗝".as_bytes().to_vec(),
        "значение".as_bytes().to_vec(),
    ]);
    commands.push(vec![b"SET".to_vec(), noise(3, 5000), b"a long name".to_vec()]);
    commands
}

fn collections() -> Vec<Command> {
    let numbers = |range: std::ops::Range<i64>| range.map(|n| (n * 7919).to_string().into_bytes());
    vec![
        words("RPUSH list a b c 1 -2 300 70000 5000000000 -9223372036854775808"),
        command("RPUSH", "list of numbers", numbers(-300..300)),
        command("RPUSH", "list long", (0..4000).map(|n| noise(n, n % 90))),
        command("RPUSH", "list of large", (0..5).map(|n| noise(n, 20_000))),
        command("LPUSH", "list of one", [Vec::new()]),
        words("SADD set:numbers 1 2 3 -4 500000"),
        words("SADD set:wide 9223372036854775807 -9223372036854775808 0"),
        words("SADD set:mixed a 1 b"),
        command("SADD", "set:large", (0..1500).map(|n| noise(n, 20))),
        command("SADD", "set:many numbers", numbers(0..2000)),
        words("HSET hash a 1 b two c -3"),
        command("HSET", "hash:large", (0..2400).map(|n| noise(n, 12))),
        command("HSET", "hash:long value", [b"f".to_vec(), noise(9, 70_000)]),
        command("HSET", "hash:empty", [Vec::new(), Vec::new()]),
    ]
}

fn sorted() -> Vec<Command> {
    let members = |count: usize| {
        (0..count).flat_map(|n| {
            [
                format!("{}", n as f64 * 0.37 - 50.0).into_bytes(),
                format!("member {n}").into_bytes(),
            ]
        })
    };
    vec![
        words("ZADD zset 1 a 2.5 b -3 c 0.1 d 1e300 e 3.0000000000000004 f"),
        words("ZADD zset:ends -inf low +inf high 0 zero"),
        words("ZADD zset:minus -0.0 nothing"),
        command("ZADD", "zset:large", members(1000)),
        command("ZADD", "zset:long", [b"7".to_vec(), noise(4, 400)]),
        words("GEOADD places 13.361389 38.115556 Palermo 15.087269 37.502669 Catania"),
    ]
}

/// None of these is gone before a test ends, but for those that are gone at once.
fn expiring() -> Vec<Command> {
    let hour = 3_600_000;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    let mut commands = vec![
        words(&format!("SET session:far x PXAT {}", now + 1000 * hour)),
        words("RPUSH queue a b"),
        words("EXPIRE queue 86400"),
        words("HSET cart x 1"),
        words(&format!("PEXPIREAT cart {}", now + hour)),
    ];
    for n in 0..200 {
        commands.push(words(&format!("SET session:{n} {n} PX {}", hour + n * 1000)));
    }
    commands
}

fn streams(client: &mut RedisClient) {
    run(client, &[words("DEL events log bare")]);
    let mut commands: Vec<Command> = (1..400)
        .map(|n| words(&format!("XADD events {n}-1 kind order number {n}")))
        .collect();
    commands.extend((400..500).map(|n| words(&format!("XADD events {n}-7 field{} v", n % 3))));
    commands.extend(
        [
            "XDEL events 17-1 18-1 450-7",
            "XADD log * a 1",
            "XTRIM events MAXLEN 480",
            "XGROUP CREATE events workers 0",
            "XGROUP CREATE events idle $",
            "XGROUP CREATE bare nobody 0 MKSTREAM",
            "XREADGROUP GROUP workers ann COUNT 20 STREAMS events >",
            "XREADGROUP GROUP workers bob COUNT 10 STREAMS events >",
            "XACK events workers 30-1 31-1",
            "XGROUP CREATECONSUMER events workers carl",
        ]
        .map(words),
    );
    run(client, &commands);
}

fn fields_that_expire(server: &RedisServer, client: &mut RedisClient) {
    if !server.knows("HEXPIRE") {
        return;
    }
    let mut commands: Vec<Command> = vec![
        words("HSET basket a 1 b 2 c 3"),
        words("HEXPIRE basket 86400 FIELDS 2 a b"),
        words("HSET small a 1"),
        words("HPEXPIRE small 7200000 FIELDS 1 a"),
    ];
    commands.push(command("HSET", "basket:large", (0..1200).map(|n| noise(n, 15))));
    for n in (0..600).step_by(3) {
        let mut words = words(&format!("HEXPIRE basket:large {} FIELDS 1", 10_000 + n));
        words.push(noise(n * 2, 15));
        commands.push(words);
    }
    run(client, &commands);
}
