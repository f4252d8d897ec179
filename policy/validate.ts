/**
 * Checks plain values field by field and collects every problem with its JSON path, instead of stopping
 * at the first. Each check returns the value, or the fallback after noting a problem, so what is built
 * from them is of use only when `problems` is empty. The empty path is the whole document.
 */
export class Validator {
  readonly problems: string[] = [];
  readonly warnings: string[] = [];

  problem(path: string, text: string): void {
    this.problems.push(`${path || 'policy'}: ${text}`);
  }

  warn(path: string, text: string): void {
    this.warnings.push(`${path || 'policy'}: ${text}`);
  }

  /** An object's fields; absent is empty. Fields other than `known` are reported and ignored (version skew). */
  fields<K extends string>(path: string, value: unknown, known: readonly K[]): Partial<Record<K, unknown>> {
    if (value === undefined || value === null) return {};
    if (typeof value !== 'object' || Array.isArray(value)) {
      this.problem(path, `must be an object, not ${show(value)}`);
      return {};
    }
    const out: Partial<Record<K, unknown>> = {};
    for (const [key, field] of Object.entries(value)) {
      if (!(known as readonly string[]).includes(key)) this.warn(join(path, key), 'unknown field, ignored');
      else if (field !== null) out[key as K] = field;
    }
    return out;
  }

  list(path: string, value: unknown, maxLength: number): readonly unknown[] {
    if (value === undefined) return [];
    if (!Array.isArray(value)) {
      this.problem(path, `must be a list, not ${show(value)}`);
      return [];
    }
    if (value.length <= maxLength) return value;
    this.problem(path, `has ${value.length} entries; ${maxLength} are allowed`);
    return [];
  }

  oneOf<T extends string, F>(path: string, value: unknown, allowed: readonly T[], fallback: F): T | F {
    if (value === undefined) return fallback;
    if ((allowed as readonly unknown[]).includes(value)) return value as T;
    this.problem(path, `must be one of ${allowed.join(', ')}, not ${show(value)}`);
    return fallback;
  }

  boolean(path: string, value: unknown, fallback: boolean): boolean {
    if (value === undefined || typeof value === 'boolean') return value ?? fallback;
    this.problem(path, `must be true or false, not ${show(value)}`);
    return fallback;
  }

  integer(path: string, value: unknown, min: number, max: number, fallback: number): number {
    if (value === undefined) return fallback;
    if (Number.isInteger(value) && (value as number) >= min && (value as number) <= max)
      return value as number;
    this.problem(path, `must be a whole number from ${min} to ${max}, not ${show(value)}`);
    return fallback;
  }

  /** What `parse` makes of the value, if it is in range; `expected` says what that is. */
  quantity(
    path: string,
    value: unknown,
    parse: (value: unknown) => number | undefined,
    inRange: (parsed: number) => boolean,
    expected: string,
    fallback: number,
  ): number {
    if (value === undefined) return fallback;
    const parsed = parse(value);
    if (parsed !== undefined && inRange(parsed)) return parsed;
    this.problem(path, `must be ${expected}, not ${show(value)}`);
    return fallback;
  }
}

/** `a.b`, or `a["b c"]` where b is not a plain name. */
const join = (path: string, key: string): string =>
  /^[A-Za-z_][\w-]*$/.test(key) ? (path === '' ? key : `${path}.${key}`) : `${path}[${show(key)}]`;

const SHOWN = 60;

/** A value in a message: JSON, cut where it is long. */
export function show(value: unknown): string {
  const text = JSON.stringify(value) ?? String(value);
  return text.length > SHOWN ? `${text.slice(0, SHOWN)}…` : text;
}
