/** Middleboxes that strip, drop or rewrite TCP options, and what becomes of a connection through each. */
import { CACHED, ENCRYPTED, plain, type Step, scenarios } from './support/scenario.ts';

/** INIT1 is never answered: C waits 3 s; then without X25519MLKEM768; then the destination is on the list. */
const silentINIT = (server?: string): Step[] => [
  plain('init_timeout', server, { atLeast: 2500, within: 6000 }),
  plain('init_timeout', server, { atLeast: 2500, within: 6000 }),
  plain('negative_list', 'peer_unsupported', { within: 2000 }),
];
const once = (steps: Step[]): Step[] => steps.slice(0, 1);

scenarios([
  {
    name: 'nothing but a router: encrypted, the second connection from the cache',
    kinds: ['delay,delayMs=1'],
    steps: [ENCRYPTED, CACHED],
  },
  {
    name: 'unknown options stripped from SYNs: plain at once',
    kinds: ['strip-options,when=syn'],
    works: ['stripped'],
    steps: [
      plain('peer_unsupported', 'peer_unsupported', { within: 2000 }),
      plain('peer_unsupported', 'peer_unsupported', { within: 2000 }),
    ],
  },
  {
    name: 'unknown options stripped from SYN-ACKs alone: plain at once',
    kinds: ['strip-options,when=syn,from=listener'],
    works: ['stripped'],
    steps: [plain('peer_unsupported', 'options_stripped', { within: 2000 })],
  },
  {
    name: 'unknown options stripped after the handshake, both ways: plain after the time-out, then at once',
    kinds: ['strip-options,when=established'],
    works: ['stripped'],
    steps: silentINIT('options_stripped'),
  },
  {
    name: 'unknown options stripped after the handshake, both ways, and the server speaks first: plain after the time-out',
    kinds: ['strip-options,when=established'],
    greeting: true,
    works: ['stripped'],
    steps: [plain('init_timeout', 'options_stripped', { atLeast: 2500, within: 6000 })],
  },
  {
    name: 'unknown options stripped after the handshake from what the client sends: plain',
    kinds: ['strip-options,when=established,from=opener'],
    works: ['stripped'],
    steps: once(silentINIT('options_stripped')),
  },
  {
    name: 'unknown options stripped after the handshake from what the server sends: plain',
    kinds: ['strip-options,when=established,from=listener'],
    works: ['stripped'],
    steps: once(silentINIT('options_stripped')),
  },
  {
    name: 'unknown options stripped everywhere: plain at once',
    kinds: ['strip-options,when=both'],
    works: ['stripped'],
    steps: [plain('peer_unsupported', 'peer_unsupported', { within: 2000 })],
  },
  {
    name: 'a segment whose option is stripped loses half its data as well: plain',
    kinds: ['strip-options,when=established,cut=yes'],
    works: ['stripped', 'cut'],
    steps: [plain('init_timeout', 'options_stripped', { within: 6000 })],
  },
  {
    name: 'options stripped after the handshake, and retransmissions corrected: never a wrong byte, and plain in the end',
    kinds: ['strip-options,when=established', 'correct'],
    works: ['stripped', 'corrected'],
    steps: [
      { ...plain('init_timeout'), mayFail: true, transfer: { timeoutMs: 6000 } },
      { ...plain('init_timeout'), mayFail: true, transfer: { timeoutMs: 6000 } },
      plain('negative_list', 'peer_unsupported', { within: 2000 }),
    ],
  },
  {
    name: 'SYNs with unknown options dropped: plain after one SYN time-out, twice, then at once',
    kinds: ['drop-options,when=syn'],
    works: ['dropped'],
    steps: [
      plain('syn_timeout', 'peer_unsupported', { atLeast: 900, within: 2500 }),
      plain('syn_timeout', 'peer_unsupported', { atLeast: 900, within: 2500 }),
      plain('negative_list', 'peer_unsupported'),
    ],
  },
  {
    name: 'segments with unknown options dropped after the handshake, both ways: plain after the time-out',
    kinds: ['drop-options,when=established'],
    works: ['dropped'],
    steps: silentINIT('options_stripped'),
  },
  {
    name: 'segments with unknown options dropped after the handshake from the client alone: plain',
    kinds: ['drop-options,when=established,from=opener'],
    works: ['dropped'],
    steps: once(silentINIT('options_stripped')),
  },
  {
    name: 'segments with unknown options dropped after the handshake from the server alone: plain',
    kinds: ['drop-options,when=established,from=listener'],
    works: ['dropped'],
    steps: once(silentINIT('options_stripped')),
  },
  {
    name: 'timestamps stripped: encrypted',
    kinds: ['strip-timestamps'],
    worksOnPlain: ['stripped'],
    steps: [ENCRYPTED, CACHED],
  },
  {
    name: 'timestamps rewritten: encrypted',
    kinds: ['rewrite-timestamps'],
    worksOnPlain: ['rewritten'],
    steps: [ENCRYPTED, CACHED],
  },
]);
