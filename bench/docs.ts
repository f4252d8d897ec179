/** Puts the table of a run into docs/performance.md, between its two marks. Pure. */

const BEGIN = '<!-- results: written by npm run bench -- --docs -->';
const END = '<!-- end of results -->';

/** The page with other results. Throws if it does not have both marks, in order. */
export function replaceResults(page: string, results: string): string {
  const begin = page.indexOf(BEGIN);
  const end = page.indexOf(END);
  if (begin < 0 || end < begin) throw new Error(`the page does not have '${BEGIN}' and then '${END}'`);
  return `${page.slice(0, begin + BEGIN.length)}\n\n${results}\n\n${page.slice(end)}`;
}
