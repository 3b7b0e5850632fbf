import { pythonDumps, RawJson } from './python-json.ts';
import type { Random } from './random.ts';

const WORDS = `the of and to in for is on that by this with you it not or be are from at as your all have new more an was we will home can us about if page my has search
free but our one other do no information time they site he up may what which their news out use any there see only so his when contact here business who web also now help get pm view
online first am been would how were services some these click its like service than find price date back top people had list name just over state year day into email two health world
next used go work last most products music buy data make them should product system post her city policy number such please available copyright support message after best software then
good video well where info rights public books high school through each links she review years order very privacy book items company read group need many user said does set under general
research university january mail full map reviews program life know games way days management part could great united hotel real item international center must store travel comments made
development report off member details line terms before hotels did send right type because local those using results office education national car design take posted internet address
community within states area want phone shipping reserved subject between forum family long based code show even black check special prices website index being women much sign file link
open today technology south case project same pages version section own found sports house related security both county american photo game members power while care network down computer
systems three total place end following download without per access think north resources current posts big media law control water history pictures size art personal since including guide
shop directory board location change white text small rating rate government children during return students shopping account times sites level digital profile previous form events love old`.split(/\s+/);

/** Phrases beyond ASCII, as users of Dify write them: every one becomes `\uXXXX` escapes in the stored JSON. */
const FOREIGN = [
  '请帮我总结这份文件', '工作流运行记录', '検索結果を要約してください', 'Où se trouve la bibliothèque ?', 'Größenänderung über Ärmelkanal', 'Спасибо за помощь', '🙂👍🏽', 'naïve café — “quoted”', 'مرحبا بالعالم', '¿Cuándo llega el pedido?',
];

/** Marks that JSON, COPY and SQL each escape in their own way. */
const MARKED = ['said "yes"', "it's", 'C:\\Users\\dify', 'line one\nline two', 'tab\tseparated', '100 % of {{#sys.query#}}', '```json\n{"a": 1}\n```', '<b>bold</b> & more', '{{#1711526002155.query#}}'];

const SENTENCES = 2000;

/** A stock of sentences, made once for a seed and drawn from ever after: making text anew for each row would be slow. */
export class Prose {
  private readonly sentences: readonly string[];
  private readonly escaped: readonly string[];

  constructor(random: Random) {
    this.sentences = Array.from({ length: SENTENCES }, () => sentence(random));
    this.escaped = this.sentences.map((text) => pythonDumps(text).slice(1, -1));
  }

  /** Text of about this many characters (the last sentence is kept whole). */
  text(random: Random, chars: number): string {
    let text = random.pick(this.sentences);
    while (text.length < chars) text += ` ${random.pick(this.sentences)}`;
    return text;
  }

  /** The same as a JSON string, escaped beforehand: escaping tens of MB again for each load would cost most of its time. */
  json(random: Random, chars: number): RawJson {
    let text = random.pick(this.escaped);
    while (text.length < chars) text += ` ${random.pick(this.escaped)}`;
    return new RawJson(`"${text}"`);
  }

  /** A few words for a title or a file name: ASCII, without punctuation. */
  title(random: Random): string {
    return `${random.pick(WORDS)} ${random.pick(WORDS)} ${random.pick(WORDS)}`;
  }
}

function sentence(random: Random): string {
  const words = Array.from({ length: random.int(6, 18) }, () => random.pick(WORDS));
  if (random.chance(0.04)) words.push(random.pick(FOREIGN));
  if (random.chance(0.06)) words.push(random.pick(MARKED));
  const [first = '', ...rest] = words;
  return `${first.charAt(0).toUpperCase()}${first.slice(1)} ${rest.join(' ')}${random.pick(['.', '.', '.', '?', '!', ';'])}`;
}
