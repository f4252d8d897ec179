/**
 * Fetches paths over one HTTP/2 connection, all streams at once, and prints the SHA-256 of each as JSON.
 * (curl 7.88 loses its footing on the second stream of a connection without TLS.)
 *
 *     http2-client.ts http://10.77.1.2:82 /a /b …
 */
import { createHash } from 'node:crypto';
import { connect } from 'node:http2';

const [origin, ...paths] = process.argv.slice(2);
const session = connect(origin);
const digests = await Promise.all(
  paths.map(async (path) => {
    const hash = createHash('sha256');
    for await (const chunk of session.request({ ':path': path, 'x-secret': 'saffron' })) hash.update(chunk);
    return [path, hash.digest('hex')];
  }),
);
session.close();
process.stdout.write(JSON.stringify(Object.fromEntries(digests)));
