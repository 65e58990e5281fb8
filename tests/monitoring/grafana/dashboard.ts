// A dashboard as Grafana has it: the types of its own schema (@grafana/schema), from which its server and its pages are made. Keys that
// the schema does not know, and values that it does not allow, are refused; what has a default may be left out.

import type * as grafana from '@grafana/schema';
import type * as stat from '@grafana/schema/dist/esm/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen';
import type * as timeline from '@grafana/schema/dist/esm/raw/composable/statetimeline/panelcfg/x/StateTimelinePanelCfg_types.gen';
import type * as timeseries from '@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen';

/** What JSON has in place of a value of `T`: the text of an enum instead of its name. */
type Json<T> = unknown extends T
  ? unknown
  : T extends string
    ? `${T}`
    : T extends number | boolean | null | undefined
      ? T
      : { [K in keyof T]: Json<T[K]> };

/** The same, of which a plugin has defaults for everything. */
type Defaulted<T> = T extends readonly unknown[] ? T : T extends object ? { [K in keyof T]?: Defaulted<T[K]> } : T;

type Known<T, Keys extends keyof T> = Json<Pick<T, Keys>>;

/** A query as Grafana's Prometheus plugin reads it. */
type Query = Known<grafana.DataQuery, 'refId' | 'hide' | 'queryType' | 'datasource'> & {
  expr: string;
  legendFormat?: string;
  instant?: boolean;
  range?: boolean;
  interval?: string;
  exemplar?: boolean;
  format?: 'time_series' | 'table' | 'heatmap';
  editorMode?: 'builder' | 'code';
};

type Place = Known<grafana.Panel, 'id' | 'title' | 'description' | 'datasource' | 'gridPos' | 'links' | 'interval' | 'repeat' | 'transparent'>;

type Field<Custom> = Json<Omit<grafana.FieldConfigSource, 'defaults'>> & {
  defaults: Json<Pick<grafana.FieldConfig, 'color' | 'decimals' | 'displayName' | 'mappings' | 'max' | 'min' | 'noValue' | 'thresholds' | 'unit'>> & {
    custom?: Defaulted<Json<Custom>>;
  };
};

type Of<Type extends string, Options, Custom> = Place & {
  type: Type;
  targets: Query[];
  fieldConfig: Field<Custom>;
  options: Defaulted<Json<Options>>;
};

type Row = Known<grafana.RowPanel, 'id' | 'type' | 'title' | 'collapsed' | 'gridPos'> & { panels: [] };

type Panel =
  | Row
  | Of<'stat', stat.Options, Record<string, never>>
  | Of<'state-timeline', timeline.Options, timeline.FieldConfig>
  | Of<'timeseries', timeseries.Options, timeseries.FieldConfig>;

/** What a file has to be. */
export type Dashboard = Json<Omit<grafana.Dashboard, 'panels'>> & { uid: string; title: string; panels: Panel[] };
