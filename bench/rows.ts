/** Every row of the table, in the order in which it is printed. */

import type { Row } from './contender.ts';
import { floors } from './contenders/floors.ts';
import { plain } from './contenders/plain.ts';
import { proxies } from './contenders/proxies.ts';
import { tcpcryptRows } from './contenders/tcpcrypt.ts';
import { tunnelRows } from './contenders/tunnels.ts';

export const ROWS: readonly Row[] = [plain, ...proxies, ...tunnelRows, ...floors, ...tcpcryptRows];
